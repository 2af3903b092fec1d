"""The names that the page of words promises to users of TF-GAN."""

from __future__ import annotations

import re
from pathlib import Path

from qrkt_keras import training
from qrkt_keras.training.tfgan import tfgan_modules

PAGE = Path(__file__).parents[2] / "docs" / "nomenclature.md"


def rows():
    table = PAGE.read_text().split("| TF-GAN | here |")[1]
    for line in table.splitlines():
        cells = [re.findall(r"`([^`]+)`", cell) for cell in line.split("|")[1:-1]]
        if len(cells) == 2 and cells[1]:
            yield cells


def test_every_name_is_there():
    modules = tfgan_modules()
    found = [*rows()]
    assert len(found) == 10
    for theirs, (ours,) in found:
        for name in theirs:
            assert any(hasattr(module, name) for module in modules), name
        if ours.startswith("GANLoss"):
            loss = training.GANLoss(re.search(r'"(\w+)"', ours)[1])
            names = training.gan_losses.GAN_LOSSES[loss.name]
            assert set(theirs) == {names.generator, names.discriminator}
        else:
            assert callable(getattr(training, ours))
