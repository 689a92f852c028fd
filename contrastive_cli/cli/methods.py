"""`clr methods`: which methods there are, with their fields."""

from __future__ import annotations

from typing import Annotated

import typer

from contrastive_cli.cli.console import Lines, Output
from contrastive_cli.cli.options import Json, Quiet


def methods(
    file: Annotated[
        str | None, typer.Argument(metavar="[FILE.py]", help="A method of your own: look at it and make it known.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List the methods and the fields that --set method.FIELD=VALUE changes."""
    from contrastive_cli.methods import list_methods, load_method
    from contrastive_cli.services.own_methods import name_method

    output = Output(json=json, quiet=quiet)
    names = list_methods() if file is None else [name_method(file)]
    specs = {name: load_method(name_method(name)) for name in names}
    fields = {
        name: {key: info.default for key, info in spec.config.model_fields.items() if key != "name"}
        for name, spec in specs.items()
    }
    output.table(
        title="methods",
        columns=["name", "what", "fields"],
        rows=[
            [name, spec.summary, ", ".join(f"{key}={value}" for key, value in fields[name].items())]
            for name, spec in specs.items()
        ],
        piped=[
            Lines(title="methods", columns=["name", "what"], rows=[[n, spec.summary] for n, spec in specs.items()]),
            Lines(
                title="fields",
                columns=["method", "field", "default"],
                rows=[[name, key, str(value)] for name in names for key, value in fields[name].items()],
            ),
        ],
    )
    if json:
        output.result(
            {"methods": [{"name": n, "summary": s.summary, "fields": fields[n]} for n, s in specs.items()]}, ""
        )
