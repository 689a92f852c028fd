"""Which class folders hold a picture: one at least that can be decoded, whatever its name says."""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from contrastive_cli.data.images import BadImage, decode
from contrastive_cli.data.quiet_decoders import quiet_decoders
from contrastive_cli.data.sources import ALWAYS_FORGIVEN

PROBED_SIDE = 8  # a picture is decoded at that size to see whether it can be


def with_decodable(
    files: Sequence[Path], owners: Sequence[str | None], *, max_bad: float, look: bool
) -> list[str | None]:
    """The owners without classes of which no picture can be decoded.

    Only small classes need a look: more undecodable files than are passed over are an error in any case.
    """
    counts = Counter(owner for owner in owners if owner is not None)
    limit = max(ALWAYS_FORGIVEN, int(max_bad * len(files))) if look else 0
    suspects = {owner for owner, count in counts.items() if count <= limit}
    if not suspects:
        return list(owners)
    with quiet_decoders():
        for file, owner in zip(files, owners, strict=True):
            if owner in suspects and _is_decodable(file):
                suspects.discard(owner)
    return [None if owner in suspects else owner for owner in owners]


def _is_decodable(file: Path) -> bool:
    try:
        status = file.stat()
    except OSError:
        return False
    return _was_decodable(os.fspath(file), status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=100_000)
def _was_decodable(file: str, size: int, modified: int) -> bool:
    del size, modified  # parts of the key
    try:
        decode(Path(file), size=PROBED_SIDE, channels=3)
    except BadImage:
        return False
    return True
