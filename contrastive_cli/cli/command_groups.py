"""Commands that have commands below them, and one of these that is meant where none is named."""

from __future__ import annotations

from typing import Any

import typer.core


class ListsByDefault(typer.core.TyperGroup):
    """A group whose command `list` is meant by `clr GROUP`, `clr GROUP --json` and `clr GROUP FOLDER`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `list` in front of what begins with none of the commands."""
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)
