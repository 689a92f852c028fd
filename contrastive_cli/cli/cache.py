"""`clr cache`: the decoded images that are kept between commands, listed and removed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from contrastive_cli.cli.command_groups import ListsByDefault
from contrastive_cli.cli.console import Output, agrees
from contrastive_cli.cli.help_text import GroupedCommand
from contrastive_cli.cli.options import Json, Quiet
from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.wording import counted

if TYPE_CHECKING:
    from contrastive_cli.data.cache_entries import CacheEntry

cache = typer.Typer(
    cls=ListsByDefault,
    help="List and remove the decoded images that are kept between commands; `clr cache` alone lists them.",
    rich_markup_mode=None,
)


@cache.command("list", cls=GroupedCommand)
def list_command(json: Json = False, quiet: Quiet = False) -> None:
    """List the decoded splits, the one used last first.

    CLR_CACHE names the folder. With CLR_CACHE_LIMIT, as 20GB, what was used longest ago is removed when more is needed.
    """
    from contrastive_cli.data.cache import cache_directory
    from contrastive_cli.data.cache_entries import cache_limit, list_entries

    output = Output(json=json, quiet=quiet)
    folder, limit = cache_directory(), cache_limit()
    entries = list_entries(folder)
    if not entries:
        output.note(f"nothing is kept in {folder}")
    total = sum(entry.bytes for entry in entries)
    most = "" if limit is None else f" of {limit / 1e6:.0f} MB"
    output.table(
        title=f"{counted(len(entries), 'split')} in {folder}, {total / 1e6:.0f} MB{most}",
        columns=["name", "images", "MB", "last used"],
        rows=[
            [
                entry.path.name,
                "-" if entry.images is None else str(entry.images),
                f"{entry.bytes / 1e6:.1f}",
                datetime.fromtimestamp(entry.used).strftime("%Y-%m-%d %H:%M"),
            ]
            for entry in entries
        ],
    )
    if json:
        output.result(
            {
                "directory": str(folder),
                "limit": limit,
                "bytes": total,
                "entries": [_to_dict(entry) for entry in entries],
            },
            "",
        )


@cache.command("remove", cls=GroupedCommand)
def remove_command(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME...]", help="Names of `clr cache list`, or of datasets.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove all of them.")] = False,
    unused_for: Annotated[
        str | None, typer.Option(metavar="TIME", help="Remove what was not opened for so long, as 30d or 12h.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Remove decoded splits, after asking; they are decoded again when they are needed.

    clr cache remove --unused-for 30d --yes
    """
    from contrastive_cli.data.cache import cache_directory
    from contrastive_cli.data.cache_entries import list_entries, remove_entry, unused_since

    output = Output(json=json, quiet=quiet)
    if sum((bool(names), everything, unused_for is not None)) != 1:
        raise UsageError("say what to remove: names, --all or --unused-for TIME", hint="clr cache list shows them")
    chosen = list_entries(cache_directory())
    if names:
        chosen = _named(chosen, names)
    elif unused_for is not None:
        chosen = unused_since(chosen, seconds=_unused_seconds(unused_for))
    if not yes and chosen and not sys.stdin.isatty():
        raise UsageError("nobody is there to be asked whether to remove", hint="pass --yes to remove without asking")
    removed = []
    for entry in chosen:
        if yes or agrees(f"remove {entry.path.name} ({entry.bytes / 1e6:.1f} MB)?"):
            remove_entry(entry)
            removed.append(entry)
    freed = sum(entry.bytes for entry in removed)
    text = f"removed {counted(len(removed), 'split')}, {freed / 1e6:.1f} MB"
    output.result({"removed": [entry.path.name for entry in removed], "bytes": freed}, text)


def _named(entries: Sequence[CacheEntry], names: Sequence[str]) -> list[CacheEntry]:
    found = {name: [entry for entry in entries if name in (entry.path.name, entry.dataset)] for name in names}
    for name, those in found.items():
        if not those:
            raise UsageError(f"nothing in the cache is named {name!r}", hint="clr cache list shows the names")
    chosen = {entry.path: entry for those in found.values() for entry in those}
    return list(chosen.values())


def _unused_seconds(text: str) -> float:
    from contrastive_cli.core.durations import to_seconds

    try:
        return to_seconds(text)  # a number alone would be seconds to some and days to others
    except ValueError as error:
        raise UsageError(f"--unused-for {text!r} is {error}") from None


def _to_dict(entry: CacheEntry) -> dict[str, object]:
    return {
        "name": entry.path.name,
        "dataset": entry.dataset,
        "split": entry.split,
        "size": entry.size,
        "images": entry.images,
        "bytes": entry.bytes,
        "used": entry.used,
    }
