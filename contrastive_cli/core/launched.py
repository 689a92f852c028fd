"""What a launcher such as torchrun tells a process by its environment: which of how many it is."""

from __future__ import annotations

import os
from dataclasses import dataclass

from contrastive_cli.core.errors import UsageError

NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """One process among those of a command.

    Attributes:
        rank: Counted from 0 over all machines.
        size: Processes on all machines.
        local_rank: Counted from 0 on this machine.
        local_size: Processes on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


def place() -> Place:
    """The place of this process; the only one where no launcher has started it.

    Raises:
        UsageError: If the environment contradicts itself.
    """
    if not all(os.environ.get(name) for name in NEEDED):
        return Place()
    try:
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        found = Place(
            rank=rank,
            size=size,
            local_rank=int(os.environ.get("LOCAL_RANK", rank)),
            local_size=int(os.environ.get("LOCAL_WORLD_SIZE", size)),
        )
    except ValueError:
        found = Place(size=0)
    if not 0 <= found.rank < found.size:
        given = ", ".join(f"{name}={os.environ[name][:40]}" for name in NEEDED[:2])
        raise UsageError(f"the environment names no process of a group: {given}", hint="start it by torchrun")
    return found
