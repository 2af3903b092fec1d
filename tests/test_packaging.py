"""The metadata, the pins, and what `make` says and does, with stand-ins for the Pythons."""

from __future__ import annotations

import ast
import os
import re
import shutil
import stat
import subprocess
import time
from importlib.metadata import PackageNotFoundError, entry_points, metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

# All that a machine needs beside Python.
TOOLS = ["cat", "chmod", "cut", "date", "grep", "make", "mkdir", "rm", "sed", "sh", "tail", "tee"]

# A Python 3.x that "makes" an environment with itself in it and "installs" a command; what it
# was asked to do goes to calls.log. With BREAK_PIP set, pip fails.
STAND_IN = """#!/bin/sh
case "$*" in
    *version_info*) echo "{version} {venv}" ;;
    "-c ") ;;
    --version) echo "Python {version}" ;;
    *"-m venv"*)
        for folder; do :; done
        rm -rf "$folder"
        mkdir -p "$folder/bin"
        cat "$0" > "$folder/bin/python"
        chmod +x "$folder/bin/python"
        echo "venv" >> calls.log ;;
    *"pip install"*)
        echo "pip" >> calls.log
        if [ -n "${{BREAK_PIP:-}}" ]; then echo "ERROR: no network"; exit 1; fi
        echo "Installing collected packages: all" ;;
    *pytest*) echo "pytest $*" ;;
    *) echo "unexpected: $*" >&2; exit 3 ;;
esac
"""


def requirements(repository: Path) -> dict[str, list[Requirement]]:
    """The lists of requirement strings in setup.py, by the name of their variable."""
    tree = ast.parse((repository / "setup.py").read_text(encoding="utf-8"))
    return {
        node.targets[0].id: [Requirement(text) for text in ast.literal_eval(node.value)]
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id.endswith("_REQUIRES")
    }


def pins(repository: Path) -> dict[str, str]:
    """The pinned versions by normalised name."""
    lines = (repository / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {normalised(name): version for name, version in pairs}


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


class TestMetadata:
    def test_every_requirement_is_a_range_that_holds_its_pin(self, repository: Path) -> None:
        pinned = pins(repository)
        lists = requirements(repository)
        assert sorted(lists) == ["INSTALL_REQUIRES", "TEST_REQUIRES"]
        for requirement in [*lists["INSTALL_REQUIRES"], *lists["TEST_REQUIRES"]]:
            operators = {specifier.operator for specifier in requirement.specifier}
            assert operators <= {">=", "<"} and operators, str(requirement)
            assert requirement.specifier.contains(pinned[normalised(requirement.name)])

    def test_the_packages_that_the_user_named_come_with_a_plain_install(
        self, repository: Path
    ) -> None:
        plain = {normalised(each.name) for each in requirements(repository)["INSTALL_REQUIRES"]}
        assert plain >= {
            "keras",
            "tensorflow",
            "tensorflow-quantum",
            "cirq-core",
            "cirq-google",
            "tensorflow-datasets",
            "keras-tuner",
            "tensorflow-gan",
        }

    def test_nothing_asks_for_tensorflow_cpu(self, repository: Path) -> None:
        lists = requirements(repository).values()
        asked = {normalised(each.name) for each_list in lists for each in each_list}
        assert "tensorflow-cpu" not in asked | set(pins(repository))

    def test_the_installed_metadata_is_this_one(self) -> None:
        try:
            asked = metadata("qrkt_keras")["Requires-Python"]
        except PackageNotFoundError:
            pytest.skip("qrkt_keras is on the path but not installed")
        assert SpecifierSet(asked) == SpecifierSet(">=3.11,<3.13")
        (script,) = entry_points(group="console_scripts", name="qrkt")
        assert script.value == "qrkt_keras.cli:main"

    def test_package_data_is_declared_for_every_file_that_is_not_code(
        self, repository: Path
    ) -> None:
        text = (repository / "setup.py").read_text(encoding="utf-8")
        (patterns,) = re.findall(r'package_data=\{"qrkt_keras": (\[.*?\])\}', text)
        package = repository / "qrkt_keras"
        declared = {path for each in ast.literal_eval(patterns) for path in package.glob(each)}
        listed = subprocess.run(
            ["git", "ls-files", "-z", "qrkt_keras"],
            cwd=repository,
            capture_output=True,
            text=True,
        )
        if listed.returncode:
            pytest.skip("not a git checkout")
        files = {repository / name for name in listed.stdout.split("\0") if name}
        data = {path for path in files if path.suffix != ".py" and path.exists()}
        assert package / "py.typed" in data
        assert data <= declared


@pytest.fixture
def machine(tmp_path: Path, repository: Path) -> Machine:
    return Machine(tmp_path, repository)


class Machine:
    """A checkout's build files in a folder of their own, on a PATH with stand-ins for Python."""

    def __init__(self, folder: Path, repository: Path) -> None:
        self.bin = folder / "bin"
        self.checkout = folder / "a checkout"
        self.bin.mkdir()
        self.checkout.mkdir()
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found, f"this test needs {tool}"
            (self.bin / tool).symlink_to(found)
        for name in ["Makefile", "setup.py", "constraints.txt", "pyproject.toml"]:
            shutil.copy(repository / name, self.checkout)
        shutil.copytree(repository / ".ci", self.checkout / ".ci")

    def add(self, name: str, version: str, venv: bool = True, script: str = STAND_IN) -> Path:
        """Puts a stand-in for a Python of that version on PATH."""
        path = self.bin / name
        path.write_text(script.format(version=version, venv="" if venv else "without venv"))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    def make(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            ["make", *arguments],
            cwd=self.checkout,
            env={"PATH": str(self.bin), "HOME": str(self.bin), **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )

    def calls(self) -> list[str]:
        """What the stand-ins did since the last time."""
        log = self.checkout / "calls.log"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines


def the_line(done: subprocess.CompletedProcess) -> str:
    """The one line that a refused call prints."""
    assert done.returncode != 0
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


class TestWhichPython:
    @pytest.mark.parametrize("target", ["demo", "test"])
    @pytest.mark.parametrize("version", ["3.10.13", "3.13.0", "2.7.18", "3.1.2"])
    def test_another_version_gets_one_clear_line(
        self, machine: Machine, target: str, version: str
    ) -> None:
        python = machine.add("python3", version)
        line = the_line(machine.make(target))
        assert f"qrkt_keras needs Python 3.11 or 3.12; found {version} ({python})" in line
        assert machine.calls() == []
        assert not (machine.checkout / ".venv").exists()

    def test_none_at_all(self, machine: Machine) -> None:
        assert "needs Python 3.11 or 3.12; found none" in the_line(machine.make("demo"))

    def test_without_venv(self, machine: Machine) -> None:
        python = machine.add("python3", "3.11.2", venv=False)
        line = the_line(machine.make("test"))
        assert f"Python 3.11.2 ({python}) cannot make virtual environments" in line
        assert "apt install python3.11-venv" in line

    def test_the_one_that_was_asked_for(self, machine: Machine) -> None:
        machine.add("python3.12", "3.12.4")
        other = machine.add("mine", "3.9.1")
        for line in [
            the_line(machine.make("test", "PYTHON=mine")),
            the_line(machine.make("test", PYTHON=str(other))),
        ]:
            assert f"found 3.9.1 ({other})" in line
        assert "there is no PYTHON=nowhere" in the_line(machine.make("test", "PYTHON=nowhere"))

    def test_a_shim_that_fails_is_passed_over(self, machine: Machine) -> None:
        machine.add("python3.12", "", script="#!/bin/sh\necho 'pyenv: not found' >&2\nexit 127\n")
        machine.add("python3", "3.11.9")
        done = machine.make("test")
        assert done.returncode == 0, done.stderr
        assert f"with Python 3.11.9 ({machine.bin / 'python3'})" in done.stdout

    def test_what_pyenv_hides_is_found(self, machine: Machine, tmp_path: Path) -> None:
        hidden = tmp_path / "pyenv" / "versions" / "3.12.1" / "bin"
        hidden.mkdir(parents=True)
        machine.add("python", "3.12.1").rename(hidden / "python")
        machine.add("python3", "3.13.0")
        done = machine.make("test", PYENV_ROOT=str(tmp_path / "pyenv"))
        assert done.returncode == 0, done.stderr
        assert str(hidden / "python") in done.stdout

    def test_one_that_can_make_environments_goes_before_one_that_cannot(
        self, machine: Machine
    ) -> None:
        machine.add("python3.12", "3.12.3", venv=False)
        machine.add("python3.11", "3.11.9")
        done = machine.make("test")
        assert done.returncode == 0, done.stderr
        assert "with Python 3.11.9" in done.stdout


class TestSetUp:
    @pytest.fixture
    def ready(self, machine: Machine) -> Machine:
        machine.add("python3.12", "3.12.4")
        done = machine.make("test")
        assert done.returncode == 0, done.stderr
        assert machine.calls() == ["venv", "pip"]
        return machine

    def test_the_second_call_installs_nothing(self, ready: Machine) -> None:
        done = ready.make("test")
        assert done.returncode == 0, done.stderr
        assert ready.calls() == []
        assert "pytest" in done.stdout and "not slow" in done.stdout
        assert "not slow" not in ready.make("test-all").stdout

    @pytest.mark.parametrize("name", ["setup.py", "constraints.txt", "pyproject.toml"])
    def test_a_change_installs_again_into_the_same_environment(
        self, ready: Machine, name: str
    ) -> None:
        later = time.time() + 10
        os.utime(ready.checkout / name, (later, later))
        assert ready.make("test").returncode == 0
        assert ready.calls() == ["pip"]

    def test_an_installation_that_failed_is_told_and_repaired(self, machine: Machine) -> None:
        machine.add("python3.12", "3.12.4")
        done = machine.make("test", BREAK_PIP="yes")
        assert done.returncode != 0
        assert "ERROR: no network" in done.stdout + done.stderr
        assert "-m pytest" not in done.stdout
        assert machine.calls() == ["venv", "pip"]
        assert machine.make("test").returncode == 0
        assert machine.calls() == ["venv", "pip"]

    def test_an_environment_broken_off_half_way_is_made_afresh(self, ready: Machine) -> None:
        (ready.checkout / ".venv" / ".installed").unlink()
        assert ready.make("test").returncode == 0
        assert ready.calls() == ["venv", "pip"]

    def test_an_environment_whose_python_is_gone_is_made_afresh(self, ready: Machine) -> None:
        (ready.checkout / ".venv" / "bin" / "python").unlink()
        assert ready.make("test").returncode == 0
        assert ready.calls() == ["venv", "pip"]

    def test_an_environment_that_was_moved_is_made_afresh(self, ready: Machine) -> None:
        ready.checkout = ready.checkout.rename(ready.checkout.parent / "elsewhere")
        assert ready.make("test").returncode == 0
        assert ready.calls() == ["venv", "pip"]

    def test_an_update_that_fails_is_not_taken_for_done(self, ready: Machine) -> None:
        later = time.time() - 5
        os.utime(ready.checkout / ".venv" / ".installed", (later - 60, later - 60))
        os.utime(ready.checkout / "setup.py", (later, later))
        assert ready.make("test", BREAK_PIP="yes").returncode != 0
        assert ready.make("test").returncode == 0
        assert ready.calls() == ["pip", "venv", "pip"]
