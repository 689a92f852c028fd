"""The lines of `metrics.jsonl`."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from contrastive_cli.core.runs import Run


def read_metrics(run: Run) -> list[dict[str, float]]:
    """The whole lines of `metrics.jsonl`, numbers only; a last line cut off by a kill is left out."""
    file = run.path / "metrics.jsonl"
    records = []
    with contextlib.suppress(OSError):
        for line in file.read_bytes().splitlines() if file.is_file() else ():
            with contextlib.suppress(ValueError, RecursionError):
                record = json.loads(line)
                if isinstance(record, dict):
                    records.append({key: value for key, value in record.items() if _is_number(value)})
    return records


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) < 1e300  # which a NaN is not
