"""What a shell offers at the tab key: names of runs, datasets, methods, presets. Nothing here imports torch.

`clr --install-completion` teaches the shell to ask.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

RUNS = Path("runs")


def complete_runs(incomplete: str) -> list[str]:
    """Runs under runs/ by their names, the newest first; below a folder that is being typed, by their paths."""
    folder, slash, _ = incomplete.rpartition("/")
    root = Path(folder or "/") if slash else RUNS
    try:
        found = [(file.stat().st_mtime, file.parent.name) for file in root.glob("*/manifest.json")]
    except OSError:
        return []
    names = (f"{folder}{slash}{name}" for _, name in sorted(found, reverse=True))
    return _beginning(incomplete, (name for name in names if name.isprintable()))


def complete_datasets(incomplete: str) -> list[str]:
    """The datasets that come with clr, and those of installed packages."""
    from contrastive_cli.data.datasets import DATASETS
    from contrastive_cli.data.own_datasets import offered

    return _beginning(incomplete, dict.fromkeys([*DATASETS, *offered()]))


def complete_methods(incomplete: str) -> list[str]:
    """The methods that come with clr, and those of installed packages."""
    from contrastive_cli.methods import list_methods

    return _beginning(incomplete, list_methods())


def complete_presets(incomplete: str) -> list[str]:
    """The presets of configs/."""
    from contrastive_cli.core.config import list_presets

    return _beginning(incomplete, (preset.stem for preset in list_presets()))


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
