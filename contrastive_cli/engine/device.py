"""Which device to compute on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from contrastive_cli.core.errors import TrainingError, UsageError

PIXELS_PER_PASS = {"cpu": 128 * 32**2, "cuda": 512 * 96**2}  # on a CPU, activations that stay in the cache
MAX_IMAGES_PER_PASS = 512


def choose_device(requested: str) -> torch.device:
    """`auto` takes the accelerator if there is one; anything else must exist on this machine.

    Raises:
        UsageError: If the device is unknown or absent.
    """
    if requested == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(requested)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"device {requested!r} cannot be used: {reason}", hint="pass --device cpu") from None
    return device


def images_per_pass(device: torch.device, size: int) -> int:
    """How many images of `size` pixels to embed at once; the number makes no difference to a result but rounding."""
    pixels = PIXELS_PER_PASS.get(device.type, PIXELS_PER_PASS["cuda"])
    return max(1, min(MAX_IMAGES_PER_PASS, pixels // size**2))


@contextlib.contextmanager
def memory_errors(device: torch.device, *, batch_size: int | None = None) -> Iterator[None]:
    """Turn running out of memory, on whatever device, into one line; without a batch size it is the model's own.

    Raises:
        TrainingError: In place of torch's errors.
    """
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one; a CPU raises a plain one
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        if batch_size is None:
            raise TrainingError(
                f"the model does not fit into the memory of {device}",
                hint="lower encoder.width or take another encoder",
            ) from error
        raise TrainingError(
            f"out of memory on {device} at batch size {batch_size}",
            hint="pass a smaller --micro-batch-size (contrastive methods keep all negatives) or --batch-size",
        ) from error
