"""Parts of a whole in the words of a reader."""

from __future__ import annotations


def rounded_percent(part: float) -> str:
    """A part in [0, 1] as percent of two significant digits without trailing zeros: 0.0487 -> `4.9 %`, 1 -> `100 %`."""
    return f"{float(f'{100 * part:.2g}'):g} %"
