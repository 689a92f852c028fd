"""A few processes that meet again and again: starting them takes seconds, a group of them does not."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

MOST = 3
PATIENCE = 240.0


class Pool:
    """Up to `MOST` processes; each task is done by the first so many, as the processes of one training."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._tasks = 0
        context = multiprocessing.get_context("spawn")
        self._pipes: list[multiprocessing.connection.Connection] = []
        self._processes = []
        for rank in range(MOST):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(rank, theirs), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def run(self, work: Callable[..., Any], size: int, **arguments: Any) -> list[Any]:
        """What `work(**arguments)` returns in each of `size` processes, by rank; an error of one is raised here."""
        self._tasks += 1
        meeting = str(Path(self._folder.name) / f"task-{self._tasks}")
        for pipe in self._pipes[:size]:
            pipe.send((work, size, meeting, arguments))
        answers = []
        for rank, pipe in enumerate(self._pipes[:size]):
            assert pipe.poll(PATIENCE), f"process {rank} of {size} does not answer"
            answers.append(pipe.recv())
        failed = [text for right, text in answers if not right]
        assert not failed, "\n".join(failed)
        return [value for _, value in answers]

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            with contextlib.suppress(OSError):
                pipe.send(None)
        for process in self._processes:
            process.join(1)
            process.kill()
        self._folder.cleanup()


def _work(rank: int, pipe: Any) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch
    import torch.distributed

    from contrastive_cli.core.launched import Place
    from contrastive_cli.engine import distributed

    torch.set_num_threads(1)
    while (task := pipe.recv()) is not None:
        work, size, meeting, arguments = task
        try:
            if size > 1:
                store = torch.distributed.FileStore(meeting, size)  # type: ignore[attr-defined]
                distributed.join_at(store, Place(rank=rank, size=size, local_rank=rank, local_size=size))
            answer = (True, work(**arguments))
        except BaseException:  # noqa: BLE001 - it is told
            answer = (False, f"process {rank} of {size}:\n{traceback.format_exc()}")
        finally:
            distributed.leave()
        pipe.send(answer)


def pool() -> Iterator[Pool]:
    """For a fixture."""
    made = Pool()
    yield made
    made.close()
