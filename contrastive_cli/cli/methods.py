"""`clr methods`: which methods there are, with their fields."""

from __future__ import annotations

from contrastive_cli.cli.console import Output
from contrastive_cli.cli.options import Json, Quiet


def methods(json: Json = False, quiet: Quiet = False) -> None:
    """List the methods and the fields that --set method.FIELD=VALUE changes."""
    from contrastive_cli.methods import list_methods, load_method

    output = Output(json=json, quiet=quiet)
    specs = {name: load_method(name) for name in list_methods()}
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
    )
    if json:
        output.result(
            {"methods": [{"name": n, "summary": s.summary, "fields": fields[n]} for n, s in specs.items()]}, ""
        )
