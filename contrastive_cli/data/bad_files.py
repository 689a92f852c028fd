"""Files that cannot be used: how many are passed over, and the list of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from contrastive_cli.core.errors import DataError
from contrastive_cli.core.files import harmless_cell
from contrastive_cli.data.sources import ALWAYS_FORGIVEN, BadFile


def refuse_many_bad(bad: Sequence[BadFile], total: int, *, max_bad: float, hint: str, path: Path | None = None) -> None:
    """Pass over at most `max_bad` of `total` files, and over three of them in any case unless it is 0.

    Raises:
        DataError: If more are bad.
    """
    allowed = max(ALWAYS_FORGIVEN, int(max_bad * total)) if max_bad > 0 else 0
    if len(bad) > allowed:
        limit = f"limit {max_bad:.3g}, or {ALWAYS_FORGIVEN}" if max_bad > 0 else "limit 0"
        raise DataError(
            f"{len(bad)} of {total} files cannot be used ({limit}): {first_three(bad)}", hint=hint, path=path
        )


def first_three(bad_files: Sequence[BadFile]) -> str:
    """The first of them with their reasons, for an error."""
    more = " ..." if len(bad_files) > 3 else ""
    return "; ".join(f"{bad.path!r} ({bad.reason})" for bad in bad_files[:3]) + more


def bad_files_csv(bad_files: Sequence[BadFile]) -> bytes:
    """The list of bad files as CSV, in UTF-8 whatever bytes the names hold."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerow(("path", "reason"))
    for bad in bad_files:
        writer.writerow([harmless_cell(bad.path), harmless_cell(bad.reason)])
    return text.getvalue().encode("utf-8", "backslashreplace")
