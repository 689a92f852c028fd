"""Work on several numpy arrays side by side."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def count_threads() -> int:
    """Threads that a BLAS product uses, at most the processors this process may use."""
    from threadpoolctl import threadpool_info

    wanted = max((pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"), default=1)
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(wanted, allowed))


def map_in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """The results in the order of the items, in as many threads as a BLAS product would use, here one each.

    Comparisons, sorting and gathering so run side by side too. Few items are begun ahead of the one that is waited for.
    """
    from threadpoolctl import threadpool_limits

    num_threads = count_threads()
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(num_threads) as pool:
        begun: deque[Future[Result]] = deque()
        for item in items:
            begun.append(pool.submit(function, item))
            if len(begun) > 2 * num_threads:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
