"""The state of a pickle that is being run: stack, marks, memo, and the memory it may still ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from contrastive_cli.pickles.names import find_global
from contrastive_cli.pickles.refusals import Global, RefusedError

# Allocation allowed beyond the file itself: a reference costs less in the file than in memory, but not boundlessly.
FREE_BYTES = 64 << 20
BYTES_PER_FILE_BYTE = 32
FREE_CONTAINERS = 100_000
TOO_LARGE = "it would need far more memory than its size"


class Machine:
    """The stack, the marks, the memo and the budget of one pickle.

    `names` are known beside those of plain data; `storage` is what the number of a torch storage stands for.
    """

    def __init__(
        self,
        data: bytes,
        *,
        names: Mapping[str, Global | str] | None = None,
        storage: Callable[[Any], Any] | None = None,
    ) -> None:
        self.data = data
        self.names = names
        self.storage = storage
        self.view = memoryview(data)
        self.at = 0
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks under each open MARK
        self.memo: dict[int, Any] = {}
        self.budget = FREE_BYTES + BYTES_PER_FILE_BYTE * len(data)
        self.bytes_left = self.budget
        self.containers_left = FREE_CONTAINERS + len(data) // 4

    def finish(self) -> Any:
        """The one value that is left, after the whole file was read."""
        if self.at != len(self.data):
            raise RefusedError("something follows the end of the pickle")
        if len(self.stack) != 1 or self.below:
            raise RefusedError("it leaves unused values behind")
        return self.stack[0]

    def find(self, module: str, name: str) -> Global | str:
        """What stands for a name; it is refused if nothing does."""
        return find_global(module, name, more=self.names)

    def take(self, count: int) -> memoryview:
        """The next `count` bytes."""
        start, self.at = self.at, self.at + count
        if self.at > len(self.data):
            raise IndexError("it ends early")
        return self.view[start : self.at]

    def line(self) -> bytes:
        """The bytes up to the next newline."""
        end = self.data.index(b"\n", self.at)
        start, self.at = self.at, end + 1
        return self.data[start:end]

    def since_mark(self) -> list[Any]:
        """The values above the topmost mark, taken off the stack with it."""
        items, self.stack = self.stack, self.below.pop()
        return items

    def spend(self, num_bytes: int) -> None:
        """Account for memory that the file makes us allocate."""
        self.bytes_left -= num_bytes
        if self.bytes_left < 0:
            raise RefusedError(TOO_LARGE)

    def push_container(self, value: Any) -> None:
        """Push a value that takes memory of its own."""
        self.containers_left -= 1
        if self.containers_left < 0:
            raise RefusedError(TOO_LARGE)
        self.stack.append(value)
