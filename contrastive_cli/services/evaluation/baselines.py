"""Which baselines are measured beside a run where nobody says which, and which it cannot have."""

from __future__ import annotations

from collections.abc import Sequence

from contrastive_cli.core.errors import ClrError, UsageError
from contrastive_cli.core.notes import note
from contrastive_cli.services.inference.model import Model, start_model

USUAL_BASELINES = ("random", "pixels")


def usual_baselines(model: Model) -> list[str]:
    """Those that are measured where nobody says which: with the encoder as it came, if it was trained from there."""
    if not _has_start(model):
        return list(USUAL_BASELINES)
    try:
        start_model(model)
    except ClrError as error:  # the run can be measured without what it began with
        note(f"no row start: {error.message}")
        return list(USUAL_BASELINES)
    return [*USUAL_BASELINES, "start"]


def refuse_without_start(model: Model, baselines: Sequence[str]) -> None:
    """Ask that a run whose start is to be measured began with weights that it names.

    Raises:
        UsageError: If it did not.
    """
    if "start" not in baselines or _has_start(model):
        return
    if model.manifest.parent is not None:
        raise UsageError(
            f"--baseline start is of weights that came from elsewhere, and {model.run.name} began with those of a run",
            hint=f"leave start out, and measure that run: clr linear-eval --run {model.manifest.parent.path}",
        )
    raise UsageError(
        f"--baseline start is the encoder that a run began with, and {model.run.name} began with fresh weights",
        hint="leave start out, or give random",
    )


def _has_start(model: Model) -> bool:
    return model.manifest.weights is not None and model.manifest.status != "imported"
