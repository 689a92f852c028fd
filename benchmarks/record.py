"""What a benchmark measured, as a file beside it, and the table of docs/speed.md that is made of these files.

    python -m benchmarks.record            write the table between the two marks in docs/speed.md
    python -m benchmarks.record --check    say whether it is what the files say

A benchmark that is started with --record calls `record`, so no figure of that table is typed by hand.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
SPEED = Path(__file__).parents[1] / "docs" / "speed.md"
BEGIN, END = "<!-- speed: written by python -m benchmarks.record -->", "<!-- end of speed -->"


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        what: What was done, on what.
        clr: Our figure.
        unit: Of both figures, such as s, ms, MB, views/s.
        peer: With whom it is compared; empty for nobody.
        theirs: The peer's figure, from the same run.
        rounds: How often both were measured, in turns; the figures are medians.
    """

    what: str
    clr: float
    unit: str
    peer: str = ""
    theirs: float | None = None
    rounds: int = 1


def record(name: str, rows: Sequence[Row], *, threads: int) -> None:
    """Write results/NAME.json: the rows, the command that is running, the machine and the day."""
    module = getattr(sys.modules["__main__"].__spec__, "name", f"benchmarks.{name}")
    arguments = [re.sub(r"^.*[/\\].*$", "DIR", word) for word in sys.argv[1:] if word != "--record"]
    result = {
        "command": shlex.join(["python", "-m", module, *arguments]),
        "machine": machine(),
        "threads": threads,
        "day": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "rows": [asdict(row) for row in rows],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")


def machine() -> str:
    """Cores, processor, what it computes with, and torch."""
    import torch

    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    model = facts.get("model name", platform.processor() or platform.machine())
    family = f" family {facts['cpu family']}" if "cpu family" in facts else ""
    flags = facts.get("flags", "").split()
    extras = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    return f"{os.cpu_count()} cores of {model}{family} ({', '.join(extras[-2:])}), torch {torch.__version__}"


def table(results: Iterable[dict[str, Any]]) -> Iterator[str]:
    """The Markdown lines, one table for each machine."""
    by_machine: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for result in results:
        by_machine.setdefault((result["machine"], result["threads"]), []).append(result)
    for (name, threads), group in sorted(by_machine.items()):
        yield f"{name}, {threads} thread{'s' if threads > 1 else ''}; medians of so many rounds in turns:"
        yield ""
        yield "| what | clr | others in the same run | clr is better by | rounds | command, day |"
        yield "|---|---|---|---|---|---|"
        for result in group:
            for row in (Row(**values) for values in result["rows"]):
                theirs = "" if row.theirs is None else f"{row.peer} {figure(row.theirs, row.unit)}"
                ratio = "" if row.theirs is None else f"{advantage(row.clr, row.theirs, row.unit):.2f}x"
                command = f"`{result['command']}`, {result['day']}"
                yield f"| {row.what} | {figure(row.clr, row.unit)} | {theirs} | {ratio} | {row.rounds} | {command} |"
        yield ""


def advantage(ours: float, theirs: float, unit: str) -> float:
    """How many times as good ours is: more of a rate, less of anything else."""
    return ours / theirs if unit.endswith("/s") else theirs / ours


def figure(value: float, unit: str) -> str:
    """Three digits and the unit."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f} {unit}"


def with_table(text: str) -> str:
    """The page's text with the table that the files give."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"docs/speed.md lacks the marks {BEGIN} and {END}")
    results = (json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json")))
    return f"{before}{begin}\n\n" + "\n".join(table(results)) + f"\n{end}{after}"


def main() -> None:
    """Write or check the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    old = SPEED.read_text()
    new = with_table(old)
    if not arguments.check:
        SPEED.write_text(new)
    elif new != old:
        raise SystemExit("docs/speed.md is not what benchmarks/results say: run python -m benchmarks.record")


if __name__ == "__main__":
    main()
