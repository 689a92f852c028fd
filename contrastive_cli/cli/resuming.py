"""Going on with a run: by `clr pretrain --resume`, or when a launcher starts a command again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contrastive_cli.cli.console import Output
from contrastive_cli.cli.processes import part_processes
from contrastive_cli.cli.training import run_session
from contrastive_cli.cli.waiting import waiting

if TYPE_CHECKING:
    from contrastive_cli.core.runs import Run
    from contrastive_cli.services.training.sessions import Session


def go_on(
    path: Path, given: Mapping[str, Any], *, config: str | None, sets: list[str], output: Output, began: float
) -> None:
    """Resume a run; one that has finished, as it may have when it was killed, is only told of."""
    from contrastive_cli.core.runs import find_run

    run = find_run(str(path))
    manifest = run.manifest()
    if manifest.status == "finished" and not given and config is None and not sets:
        output.note("the run is finished already; --epochs N makes it longer")
        summary = {"run": str(run.path), "steps": manifest.total_steps, "seconds": round(manifest.seconds, 1)}
    else:
        summary = run_session(_resume(run, given, config=config, sets=sets, output=output, began=began), output)
    if not part_processes():
        return
    if manifest.parent is not None and manifest.method == "supervised":
        from contrastive_cli.cli.finetune import measure

        measure(run, summary, device=manifest.device, output=output)
        return
    output.result(summary, f"{run.path}")


def _resume(
    run: Run, given: Mapping[str, Any], *, config: str | None, sets: list[str], output: Output, began: float
) -> Session:
    from contrastive_cli.core.config import nested, read_assignments
    from contrastive_cli.engine.distributed import from_first

    from_first(lambda: _refuse_in_use(run))
    assignments = read_assignments(sets)
    from contrastive_cli.services.training.resumption import Changes
    from contrastive_cli.services.training.sessions import resume_session

    changes = Changes(config=config, sets=assignments, flags=nested(given))
    with waiting(output) as work:
        session = resume_session(run, changes=changes, progress=work.count, say=work.say, began=began)
    for name in session.damaged:
        output.note(f"warning: {name} is damaged; going on from an older checkpoint")
    output.note(f"resuming {session.run.path} at step {session.state.step} of {session.total_steps}")
    return session


def _refuse_in_use(run: Run) -> None:
    with run.locked():  # so that it is refused at once
        pass
