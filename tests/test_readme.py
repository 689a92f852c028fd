"""The first page is short, docs/speed.md says what the results say, and the table of results is readable."""

from __future__ import annotations

import json

from benchmarks.record import RESULTS, SPEED, advantage, figure, table, with_table


def test_speed__is_what_the_benchmarks_left() -> None:
    text = SPEED.read_text()
    assert with_table(text) == text, "run python -m benchmarks.record"


def test_results__every_row_says_against_whom_on_what_how_often() -> None:
    for file in RESULTS.glob("*.json"):
        result = json.loads(file.read_text())
        assert result["command"].startswith("python -m benchmarks.")
        for row in result["rows"]:
            assert row["what"]
            assert row["rounds"] >= 1
            assert (row["theirs"] is None) == (row["peer"] == "")


def test_table__a_rate_is_better_when_larger_and_a_time_when_smaller() -> None:
    assert advantage(200.0, 100.0, "views/s") == 2
    assert advantage(2.0, 1.0, "s") == 0.5
    rows = [{"what": "w", "clr": 2.0, "unit": "s", "peer": "p", "theirs": 1.0, "rounds": 3}]
    line = list(table([{"command": "c", "machine": "m", "threads": 2, "day": "2026-01-01", "rows": rows}]))[-2]
    assert line == "| w | 2.00 s | p 1.00 s | 0.50x | 3 | `c`, 2026-01-01 |"


def test_figure__three_digits() -> None:
    assert [figure(value, "s") for value in (0.1234, 1.234, 12.34, 1234.5)] == [
        "0.123 s",
        "1.23 s",
        "12.3 s",
        "1,234 s",
    ]
