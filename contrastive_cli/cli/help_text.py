"""How `clr COMMAND --help` is laid out: what it does, examples that can be copied, then the options by subject."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

import typer.core

OTHERS = "Options"  # of no subject


class GroupedCommand(typer.core.TyperCommand):
    """A command whose options stand under the `rich_help_panel` that they name, in the order of the first of each."""

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """The docstring: its paragraphs, and under a heading those that begin with `clr`."""
        paragraphs = [" ".join(part.split()) for part in (self.help or "").split("\n\n")]
        examples = [part for part in paragraphs if part.startswith("clr ")]
        for part in paragraphs:
            if part and part not in examples:
                formatter.write_paragraph()
                with formatter.indentation():
                    formatter.write_text(part)
        if examples:
            with formatter.section("Examples"):
                for example in examples:
                    for line in broken(example, width=formatter.width - formatter.current_indent):
                        formatter.write(f"{'':>{formatter.current_indent}}{line}\n")

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments, then the options by subject."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                is_argument = parameter.param_type_name == "argument"
                own = "Arguments" if is_argument else getattr(parameter, "rich_help_panel", None) or OTHERS
                last = next(reversed(groups), OTHERS)
                groups.setdefault(last if parameter.name == "help" else own, []).append(record)
        for name, records in groups.items():
            with formatter.section(name):
                formatter.write_dl(records)


def broken(example: str, *, width: int) -> Iterator[str]:
    r"""A command in lines of at most a width, where it can be, with `\` at their ends: it can be copied whole.

    What stands in brackets after it becomes a comment, on a line of its own where there is no room beside.
    """
    command, _, notice = example.partition(" (")
    comment = f"  # {notice.rstrip(')')}" if notice else ""
    lines = textwrap.wrap(
        command, width=width - 2, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )
    if comment and (len(lines) > 1 or len(lines[-1] + comment) > width):
        yield comment.strip()
        comment = ""
    for number, line in enumerate(lines):
        yield line + comment if number == len(lines) - 1 else f"{line} \\"
