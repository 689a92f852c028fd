"""The pixels of the next part of a batch, gathered by a thread of its own while the present one is computed.

Images that are larger than the memory lie on a disk, and a step would wait for each of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias

from torch import Tensor

from contrastive_cli.data.loader import DeviceImages

_Part: TypeAlias = tuple[int, int, int]  # a step, and the first and the last but one of its samples


class ReadAhead:
    """Gathers what it is asked for, and at the same time what it expects to be asked for next.

    A step asks for the parts of its batch in the order in which the step before it did. What was gathered in vain is
    dropped, so a wrong guess costs time only. Images that are on the device already are gathered there.

    Args:
        source: All images.
        rows_of: The rows [...] of a step's samples, int64 on the CPU; a pure function, also called by the thread.
    """

    def __init__(self, source: DeviceImages, rows_of: Callable[[int, slice], Tensor]) -> None:
        self._source = source
        self._rows_of = rows_of
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="read ahead") if source.on_host else None
        self._step = -1
        self._parts: list[slice] = []  # of this step, as far as it has asked
        self._parts_before: list[slice] = []  # of the step before
        self._expected: tuple[_Part, Future[Tensor]] | None = None

    def pixels(self, step: int, piece: slice) -> Tensor:
        """Images [..., C, H, W] uint8 on the device, of some samples of a step."""
        rows = self._rows_of(step, piece)
        if self._thread is None:
            return self._source.gather(rows)
        expected, self._expected = self._expected, None
        ready = expected[1].result() if expected is not None and expected[0] == _part(step, piece) else None
        self._expect(step, piece)
        return self._source.gather(rows) if ready is None else self._source.placed(ready, rows)

    def _expect(self, step: int, piece: slice) -> None:
        """Begin to gather what follows this part."""
        assert self._thread is not None, "the images are not on the device"
        if step != self._step:
            self._step, self._parts_before, self._parts = step, self._parts, []
        self._parts.append(piece)
        done = len(self._parts)
        if done < len(self._parts_before):
            following = step, self._parts_before[done]
        elif self._parts_before:
            following = step + 1, self._parts_before[0]
        else:
            return
        self._expected = _part(*following), self._thread.submit(self._fetch, *following)

    def _fetch(self, step: int, piece: slice) -> Tensor:
        return self._source.fetched(self._rows_of(step, piece))


def _part(step: int, piece: slice) -> _Part:
    return step, piece.start, piece.stop
