"""Running a network over many stored images: the one loop of embedding, evaluation and classification."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from contrastive_cli.core.choices import Precision
from contrastive_cli.core.types import CountProgress, Method
from contrastive_cli.engine.device import images_per_pass, memory_errors
from contrastive_cli.engine.distributed import dealt, gather_pieces, num_processes
from contrastive_cli.engine.precision import autocast


def map_images(
    forward: Callable[[Tensor], tuple[Tensor, ...]],
    pixels: NDArray[np.uint8] | Tensor,
    *,
    size: int,
    device: torch.device,
    precision: Precision,
    progress: CountProgress | None = None,
) -> tuple[Tensor, ...]:
    """Call `forward` on pieces of the images, without a graph, and join what it returns.

    Several processes are dealt the pieces, which are those of one process; all of them get the whole.

    Args:
        forward: uint8 [B, C, H, W] on the device -> tensors whose first axis is B.
        pixels: [N, C, H, W], N >= 1; a memory map is read in pieces.
        size: Side in pixels of what the network sees; it decides how many images go at once.
        device: Where `forward` computes.
        precision: The number format of the autocast around it.
        progress: Called with (done, total).

    Returns:
        The tensors of `forward` with first axis N, on the CPU.

    Raises:
        TrainingError: If memory runs out.
    """
    at_once = images_per_pass(device, size)
    parts: list[tuple[Tensor, ...]] = []
    starts = range(0, len(pixels), at_once)
    is_dealt = len(starts) >= num_processes()  # a few are not worth it
    with memory_errors(device, batch_size=at_once), torch.no_grad(), autocast(device, precision):
        for number in dealt(len(starts)) if is_dealt else range(len(starts)):
            start = starts[number]
            piece = pixels[start : start + at_once]
            chunk = piece if isinstance(piece, Tensor) else torch.from_numpy(np.array(piece))
            parts.append(tuple(output.cpu() for output in forward(chunk.to(device))))
            if progress is not None:
                progress(start + len(chunk), len(pixels))
    columns = zip(*parts, strict=True)
    if not is_dealt:
        return tuple(torch.cat(column) for column in columns)
    lengths = [min(at_once, len(pixels) - start) for start in starts]
    return tuple(torch.cat(gather_pieces(column, lengths)) for column in columns)


@contextlib.contextmanager
def evaluating(method: Method) -> Iterator[None]:
    """Evaluation mode inside, the mode of before after it."""
    was_training = any(getattr(module, "training", False) for module in method.modules())
    method.eval()
    try:
        yield
    finally:
        if was_training:
            method.train()
