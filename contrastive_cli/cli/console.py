"""What people see: results on stdout, everything else on stderr; rich is used here only.

Names of files and classes come from strangers, so they are printed without markup and without control characters.
"""

from __future__ import annotations

import contextlib
import csv
import json
import logging
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from contrastive_cli.cli.plain_text import clean, clean_line, one_line, shortened
from contrastive_cli.core.errors import ClrError
from contrastive_cli.core.files import harmless_cell
from contrastive_cli.core.types import CountProgress

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

PLAIN_SECONDS = 10.0
MOST_NARROW_COLUMNS = 6  # of a table that is folded where it is too wide; one of more is written otherwise


class NotesHandler(logging.Handler):
    """Shows what the rooms below have to say as notes, each line once."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.shown: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Show a line that was not shown before."""
        text = record.getMessage()
        if text not in self.shown:
            self.shown.add(text)
            Output().note(text)


@dataclass(frozen=True, kw_only=True, slots=True)
class Lines:
    """A table of few columns, a line a row, for a pipe."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """How to talk: `--json` gives one object on stdout, `--quiet` leaves out everything but results and errors."""

    json: bool = False
    quiet: bool = False

    def note(self, text: str) -> None:
        """A line for people, on stderr; on a terminal no word of it is broken at the edge."""
        if not self.quiet:
            sys.stderr.write((_folded(clean(text)) if sys.stderr.isatty() else clean(text)) + "\n")

    def result(self, value: Mapping[str, Any], text: str) -> None:
        """The result: the object with `--json`, else the text."""
        if self.json:
            print_json(value)
        else:
            sys.stdout.write((_folded(clean(text)) if sys.stdout.isatty() else clean(text)) + "\n")

    def table(
        self,
        *,
        title: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[str]],
        piped: Sequence[Lines] = (),
    ) -> None:
        """A table on stdout; nothing with `--json`.

        Drawn on a terminal or where COLUMNS says how wide it may be; else a line a row, cells apart by tabs. A table
        that is wide by nature says by `piped` the same in few columns, as nothing folds its lines in a pipe.
        """
        if self.json:
            return
        width = _asked_width()
        if width is None and not sys.stdout.isatty():
            for part in piped or [Lines(title=title, columns=columns, rows=rows)]:
                lines = [[part.title], part.columns, *part.rows]
                sys.stdout.writelines("\t".join(clean_line(cell) for cell in line) + "\n" for line in lines)
            return
        from rich.table import Table
        from rich.text import Text

        room = width or _terminal_width()
        if _drawn_width(columns, rows) > room and (
            len(columns) > MOST_NARROW_COLUMNS or _drawn_width(columns, rows, words=True) > room
        ):
            sys.stdout.write(_records(title, columns, rows, width=room))
            return
        bold = "" if os.environ.get("NO_COLOR") else "bold"
        sys.stdout.write(clean_line(title) + "\n")  # rich would break it at the width of the table
        table = Table(header_style=bold)
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(Text(clean_line(cell)) for cell in row))
        _console(stderr=False, width=width).print(table)

    @contextlib.contextmanager
    def counting(self, description: str) -> Iterator[CountProgress]:
        """A progress bar with rate and time left; plain lines where stderr is not a terminal."""
        if self.quiet:
            yield lambda done, total: None
        elif shows_bars():
            with progress_bar() as bar:
                task = bar.add_task(description, total=None, note="")
                yield lambda done, total: bar.update(task, completed=done, total=total)
        else:
            yield plain_counter(description)


def shows_bars() -> bool:
    """Whether stderr is a terminal that can draw over what it has drawn; others are given lines."""
    return sys.stderr.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


def progress_bar(*, estimates: bool = True) -> Progress:
    """A bar on stderr that disappears when done; tasks carry a free field `note`.

    Without `estimates` they also carry `left`, the time left in words, as whoever works knows better.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True) if estimates else TextColumn("{task.fields[left]}", markup=False),
        TextColumn("left"),
        TextColumn("{task.fields[note]}", markup=False, table_column=Column(ratio=1, no_wrap=True)),
        console=_console(stderr=True),
        expand=True,  # the note alone gives way on a narrow terminal
        transient=True,
    )


def clock_time(seconds: float | None) -> str:
    """`1:05`, `2:00:09`; `-:--` where nothing is known."""
    if seconds is None:
        return "-:--"
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def plain_counter(description: str) -> CountProgress:
    """A line every few seconds, for logs; nothing for what is quick."""
    started = last = time.monotonic()
    before = 0

    def show(done: int, total: int) -> None:
        nonlocal started, last, before
        now = time.monotonic()
        begins = done < before or before == 0  # another count
        if begins:
            started = now
        before = done
        if not begins and now - last >= PLAIN_SECONDS:
            last = now
            left = (total - done) * (now - started) / max(1, done)
            sys.stderr.write(
                f"{description}: {done}/{total}, {done / max(1e-9, now - started):.0f}/s, {left:.0f} s left\n"
            )

    return show


def print_csv(rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows as CSV on stdout, a column for every key of any row; no cell is one that a spreadsheet would run."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([harmless_cell(clean_line(key)) for key in keys])
    for row in rows:
        writer.writerow([_csv_cell(row.get(key)) for key in keys])


def _csv_cell(value: Any) -> str | int | float:
    if value is None:
        return ""
    if isinstance(value, int | float):
        return value
    text = " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return harmless_cell(clean_line(text))


def print_json(value: Any) -> None:
    """One JSON object on stdout; floats that are not numbers become null."""
    sys.stdout.write(json.dumps(_finite(value), ensure_ascii=True) + "\n")


def show_error(error: ClrError, *, as_json: bool) -> None:
    """One line what, one line what to do, on stderr; an object on stdout with `--json`."""
    if as_json:
        with contextlib.suppress(OSError):  # a full disk under stdout: then to people
            fields = {"code": error.exit_code, "kind": error.kind, "message": shortened(error.message)}
            print_json({"error": {**fields, "hint": error.hint, "path": error.path}})
            sys.stdout.flush()
            return
    # Without rich, which too little memory may keep from being loaded.
    label = "" if error.kind == "interrupted" else "error: "  # what stopped says so itself
    sys.stderr.write(f"{label}{one_line(error.message)}\n")
    if error.hint:
        sys.stderr.write(f"  {one_line(error.hint)}\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _drawn_width(columns: Sequence[str], rows: Sequence[Sequence[str]], *, words: bool = False) -> int:
    """Of a table whose cells are on one line each, or with each of their words on one."""

    def of(cell: str) -> int:
        return max(map(len, cell.split()), default=0) if words else len(cell)

    return 1 + sum(3 + max(map(of, cells)) for cells in zip(columns, *rows, strict=True))


def _records(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, width: int) -> str:
    """Rows that do not fit beside each other: the first cell on a line, the others with their names below it.

    Long ones have a line each.
    """
    lines = [clean_line(title)]
    for name, *cells in rows:
        facts = [
            f"{column}\N{NO-BREAK SPACE}{clean_line(cell)}"
            for column, cell in zip(columns[1:], cells, strict=True)
            if cell != "-"
        ]
        lines.append(clean_line(name))
        for part in facts if max(map(len, facts), default=0) > width // 2 else [", ".join(facts)]:
            lines += textwrap.wrap(
                part, width, initial_indent="  ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
            )
    return "\n".join(lines).replace("\N{NO-BREAK SPACE}", " ") + "\n"


def _terminal_width() -> int:
    return shutil.get_terminal_size().columns


def _folded(text: str) -> str:
    """Lines broken between words, where the terminal would break within one; what is indented is to be copied."""
    width = _terminal_width()
    return "\n".join(
        line if len(line) <= width or line.startswith(" ")
        else textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)
        for line in text.split("\n")
    )  # fmt: skip


def _asked_width() -> int | None:
    """What COLUMNS says, if it does."""
    asked = os.environ.get("COLUMNS", "")
    return max(20, int(asked)) if asked.isascii() and asked.isdecimal() and int(asked) > 0 else None


def _console(*, stderr: bool, width: int | None = None) -> Console:
    from rich.console import Console

    # NO_COLOR takes colors only from rich; without a color system it writes no escape code at all.
    plain = bool(os.environ.get("NO_COLOR"))
    return Console(stderr=stderr, width=width, color_system=None if plain else "auto")


def agrees(question: str) -> bool:
    """Ask on stderr, as stdout is for results; anything but yes is no."""
    sys.stderr.write(f"{clean_line(question)} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
