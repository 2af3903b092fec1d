"""The README, the guides and the models' cards run as they are written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "docs" / "engines.md", ROOT / "docs" / "hardware.md"]
CARDS = sorted((ROOT / "zoo").glob("*/README.md"))
GUIDES = [*PAGES, *sorted((ROOT / "docs" / "guides").glob("*.md")), *CARDS]
# Those that run several commands, each in processes of its own: minutes. These have tests of their
# own, in `test_cli.py`, `test_cli_analyse.py`, `test_cli_strategies.py`, `zoo/test_comparison.py`.
SLOW = {"analysis", "compare", "data", "distributed"}
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "guide",
    [
        pytest.param(
            path,
            id=path.relative_to(ROOT).with_suffix("").as_posix(),
            marks=pytest.mark.slow if path.stem in SLOW else (),
        )
        for path in GUIDES
    ],
)
def test_guide(guide, tmp_path):
    blocks = BLOCK.findall(guide.read_text())
    assert blocks
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    # One Python process for the whole page, so that names last; the shell is called from it.
    script = []
    for language, code in blocks:
        if language == "python":
            script.append(code)
        else:
            command = ["bash", "-c", f"set -euo pipefail\n{code}"]
            script.append(f"import subprocess\nsubprocess.run({command!r}, check=True)\n")
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(script)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
