"""What `clr plot` refuses before anything is opened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from contrastive_cli.cli.options import refuse_beside
from contrastive_cli.core.errors import UsageError

FROM_FILES = ("embeddings", "neighbors")


def check_files(kind: str, files: tuple[Path, ...]) -> None:
    """Refuse files of a kind that is not drawn from them."""
    if files and kind not in FROM_FILES:
        raise UsageError(f"a file is drawn by `clr plot embeddings FILE` or `neighbors FILE`, not by `clr plot {kind}`")
    if kind != "embeddings" and len(files) > 1:
        raise UsageError(f"`clr plot {kind}` draws one file, not {len(files)}")


def check_runs(kind: str, names: Sequence[str], *, out: Path | None) -> None:
    """Refuse several runs where one is drawn, and a figure of several that would go into neither."""
    if len(names) > 1 and kind != "curves":
        raise UsageError(
            f"`clr plot {kind}` draws one run, not {len(names)}", hint="`clr report RUN RUN` shows several"
        )
    if len(names) > 1 and out is None:
        raise UsageError("curves of several runs belong to none of them", hint="name the file: --out curves.png")


def check_figure(out: Path) -> None:
    """Refuse a suffix that no figure has."""
    from contrastive_cli.viz.canvas import FIGURE_SUFFIXES

    if out.suffix.lower() not in FIGURE_SUFFIXES:
        known = f"{', '.join(FIGURE_SUFFIXES[:-1])} and {FIGURE_SUFFIXES[-1]}"
        raise UsageError(f"--out {str(out)!r} is no figure; figures are {known}")


def check_map(
    files: tuple[Path, ...],
    *,
    out: Path | None,
    projections: tuple[str, ...],
    metadata: Path | None,
    data_dir: Path | None,
) -> None:
    """Refuse what one map cannot hold, and options that a figure would ignore."""
    from contrastive_cli.viz.map_files import map_format

    target = map_format(out)
    if len(files) > target.max_maps:
        hint = "write a page with --out map.html" if len(files) == 2 else "give one file, or two for a page"
        raise UsageError(f"{len(files)} files do not go into one map", hint=hint)
    if target.interactive:
        return
    if out is not None and len(projections) > 1:
        raise UsageError(
            f"--out {str(out)!r} is one file, but {len(projections)} projections are asked",
            hint="leave out --out, or write a page with --out map.html",
        )
    refuse_beside("a figure", {"--metadata": metadata})
    if files:
        refuse_beside("FILE", {"--data-dir": data_dir})
