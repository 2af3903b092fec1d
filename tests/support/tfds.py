"""Where real TFDS data is, and how a test makes its own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def folders() -> list[Path]:
    """Where tests look for real data: `TFDS_DATA_DIR`, then `../shared/tfds`."""
    asked = os.environ.get("TFDS_DATA_DIR")
    return [*([Path(asked)] if asked else []), REPOSITORY.parent / "shared" / "tfds"]


def folder() -> Path | None:
    """The first of them that is there."""
    return next((one.resolve() for one in folders() if one.is_dir()), None)


def needs(name: str) -> pytest.MarkDecorator:
    """Skips a test where a data set is not there."""
    place = folder()
    found = place is not None and any(place.glob(f"{name}/**/dataset_info.json"))
    return pytest.mark.skipif(
        not found, reason=f"{name} is in none of {', '.join(map(str, folders()))}"
    )


def prepare(
    place: Path,
    name: str,
    splits: Mapping[str, Sequence[Mapping[str, Any]]],
    features: Mapping[str, Any],
    supervised_keys: tuple[str, str] | None,
    config: str | None = None,
) -> Path:
    """Has TFDS prepare examples as a data set of its own, without a network; returns its folder."""
    import tensorflow_datasets as tfds

    class Made(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=config)] if config else []

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                description=f"{name}, made by a test.",
                features=tfds.features.FeaturesDict(dict(features)),
                supervised_keys=supervised_keys,
            )

        def _split_generators(self, dl_manager):
            return {
                split: iter([(number, dict(one)) for number, one in enumerate(examples)])
                for split, examples in splits.items()
            }

        def _generate_examples(self):
            raise NotImplementedError

    Made.name = name
    builder = Made(data_dir=place)
    builder.download_and_prepare()
    return Path(builder.data_dir)
