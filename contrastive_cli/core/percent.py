"""Parts of a whole in the words of a reader."""

from __future__ import annotations


def rounded_percent(part: float) -> str:
    """A part in [0, 1] as percent of two significant digits without trailing zeros: 0.0487 -> `4.9 %`, 1 -> `100 %`."""
    return f"{float(f'{100 * part:.2g}'):g} %"


def describe_shares(largest_class: float, balanced_accuracy: float | None) -> str:
    """What an accuracy is to be compared with: the share of the largest class, and the mean over classes."""
    text = f"always the largest class: {100 * largest_class:.1f} %"
    return text if balanced_accuracy is None else f"{text}; mean over classes: {100 * balanced_accuracy:.1f} %"
