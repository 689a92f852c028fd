"""The lines of `metrics.jsonl`."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

from contrastive_cli.core.runs import Run


def read_metrics(run: Run) -> list[dict[str, float]]:
    """The whole lines of `metrics.jsonl`, numbers only; a last line cut off by a kill is left out."""
    return [{key: value for key, value in record.items() if _is_number(value)} for record in _records(run)]


def last_value(run: Run, key: str) -> float | None:
    """What the last line that has the key says; NaN where that was no number, None if no line has it."""
    found = [record[key] for record in _records(run) if key in record]
    if not found:
        return None
    return found[-1] if _is_number(found[-1]) else math.nan


def _records(run: Run) -> list[dict[str, Any]]:
    file = run.path / "metrics.jsonl"
    records = []
    with contextlib.suppress(OSError):
        for line in file.read_bytes().splitlines() if file.is_file() else ():
            with contextlib.suppress(ValueError, RecursionError):
                record = json.loads(line)
                if isinstance(record, dict):
                    records.append(record)
    return records


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) < 1e300  # which a NaN is not
