"""The processes of a command as the peers of a search: numpy's arrays over torch.distributed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from contrastive_cli.embeddings.search.peers import Peers
from contrastive_cli.engine.distributed import exchange, num_processes, process_rank


def search_peers() -> Peers:
    """Those that have met by now."""
    return Peers(rank=process_rank(), size=num_processes(), exchange=_exchange)


def _exchange(array: NDArray[Any]) -> list[NDArray[Any]]:
    return [found.numpy() for found in exchange(torch.from_numpy(np.ascontiguousarray(array)))]
