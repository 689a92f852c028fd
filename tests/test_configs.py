"""Every preset resolves, and says how it is run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.methods import VARIANTS
from contrastive_cli.core.config import list_presets, read_assignments, read_preset
from contrastive_cli.core.types import ImageFacts
from contrastive_cli.data.datasets import find_dataset
from contrastive_cli.services.configuration import build_method, resolve
from contrastive_cli.services.training.setup import refuse_other_groups

PRESETS = list_presets()


def test_list_presets__finds_the_files_of_the_checkout() -> None:
    assert {preset.name for preset in PRESETS} == {
        file.name for file in (Path(__file__).parents[1] / "configs").glob("*.yaml")
    }
    assert PRESETS


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.stem)
def test_preset__resolves(preset: Path) -> None:
    by_name = resolve(config=preset.stem, sets={}, flags={"device": "cpu"}).config
    by_path = resolve(config=str(preset), sets={}, flags={"device": "cpu"}).config
    assert by_name.model_dump() == by_path.model_dump()
    tree = read_preset(str(preset))
    assert tree
    find_dataset(by_name.dataset.name)
    for key, value in tree.get("optim", {}).items():
        found = getattr(by_name.optim, key)
        assert (list(found) if isinstance(found, tuple) else found) == value


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.stem)
def test_preset__first_line_is_its_command(preset: Path) -> None:
    first = preset.read_text().splitlines()[0]
    assert re.match(r"# .*\bclr pretrain\b", first)


@pytest.mark.parametrize("variant", VARIANTS)
def test_benchmark_of_methods__every_variant_can_be_built(variant: str) -> None:
    """It runs for hours: a wrong setting must not be found out then."""
    method, sets = VARIANTS[variant]
    flags = {"device": "cpu", "dataset": {"name": "cifar10"}, "method": {"name": method}}
    config = resolve(config=None, sets=read_assignments(list(sets)), flags=flags).config
    built = build_method(config, ImageFacts(count=100, channels=3, size=32, num_classes=10))
    refuse_other_groups(config, built)
