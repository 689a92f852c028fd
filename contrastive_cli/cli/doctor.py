"""`clr doctor`: what this machine has, and what is wrong with it."""

from __future__ import annotations

import typer

from contrastive_cli.cli.console import Output
from contrastive_cli.cli.options import Json, Quiet


def doctor(json: Json = False, quiet: Quiet = False) -> None:
    """Check versions, device, precision, disk and image decoding; exit code 1 when something is wrong."""
    from contrastive_cli.services.doctor import examine

    output = Output(json=json, quiet=quiet)
    checks = examine()
    output.table(
        title="clr doctor",
        columns=["", "check", "found"],
        rows=[["ok" if check.ok else "WRONG", check.name, check.found] for check in checks],
    )
    if json:
        output.result({"checks": [{"name": c.name, "ok": c.ok, "found": c.found} for c in checks]}, "")
    if not all(check.ok for check in checks):
        raise typer.Exit(1)
