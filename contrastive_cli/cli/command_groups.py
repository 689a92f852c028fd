"""Commands that have commands below them, and one of these that is meant where none is named."""

from __future__ import annotations

from typing import Any

import typer.core

LONGEST_SENTENCE = 300  # characters


class WholeSentences(typer.core.TyperGroup):
    """A group whose help says of each command the whole first sentence, where click would break it off."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """A line or more a command."""
        commands = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        rows = [
            (name, command.get_short_help_str(limit=LONGEST_SENTENCE))
            for name, command in commands
            if command is not None and not command.hidden
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class ListsByDefault(WholeSentences):
    """A group whose command `list` is meant by `clr GROUP`, `clr GROUP --json` and `clr GROUP FOLDER`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `list` in front of what begins with none of the commands."""
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)
