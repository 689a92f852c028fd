"""The place where several processes of one training will meet; so far there is one.

Whatever a process learns by itself - the time, a signal, how fast the processor is - may differ between processes, and
processes that decide differently wait for each other for ever. So every such decision goes through `agree`.
"""

from __future__ import annotations

from typing import TypeVar

Value = TypeVar("Value")


def agree(value: Value) -> Value:
    """The value that all processes go on with: that of the first one."""
    return value
