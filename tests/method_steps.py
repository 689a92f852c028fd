"""Steps of a method on batches that a test makes, and whether what was saved between two of them goes on alike."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable

import torch

from contrastive_cli.core.types import Batch, Method, Progress
from contrastive_cli.engine.optim import OptimConfig, build_optimizer
from contrastive_cli.engine.train import train

BATCH = 6
TOTAL = 8


def take_steps(
    method: Method,
    optimizer: torch.optim.Optimizer,
    steps: range,
    micro_batch_size: int | None,
    *,
    batch_of: Callable[[int], Batch],
) -> list[float]:
    """The loss of each step on `batch_of(step)`, of `BATCH` images."""
    records = train(
        method,
        batch_part=lambda step, piece: batch_of(step).part(piece),
        batch_size=BATCH,
        optimizer=optimizer,
        learning_rate=lambda step: 1e-3,
        steps=steps,
        progress_at=lambda step: Progress(step=step, total_steps=TOTAL),
        autocast=contextlib.nullcontext,
        micro_batch_size=micro_batch_size,
    )
    return [record.loss.item() for record in records]


def check_resumption(
    make: Callable[[], Method],
    *,
    batch_of: Callable[[int], Batch],
    stopped: int,
    steps: int,
    micro_batch_size: int | None,
) -> None:
    """Steps that go on from a file after the one where they stopped are those of one go, bit for bit."""

    def take(method: Method, optimizer: torch.optim.Optimizer, these: range) -> list[float]:
        return take_steps(method, optimizer, these, micro_batch_size, batch_of=batch_of)

    def setup() -> tuple[Method, torch.optim.Optimizer]:
        method = make()
        return method, build_optimizer(method, OptimConfig(), lr=1e-3)

    whole, optimizer = setup()
    losses = take(whole, optimizer, range(steps))
    first, optimizer = setup()
    resumed = take(first, optimizer, range(stopped))
    file = io.BytesIO()
    torch.save({"method": first.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    second, optimizer = setup()
    assert isinstance(second, torch.nn.Module)
    with torch.no_grad():  # what is not loaded would be another
        for tensor in (*second.parameters(), *(b for b in second.buffers() if b.is_floating_point())):
            tensor.add_(1)
    second.load_state_dict(saved["method"])
    optimizer.load_state_dict(saved["optimizer"])
    assert resumed + take(second, optimizer, range(stopped, steps)) == losses
    for key, value in whole.state_dict().items():
        assert torch.equal(second.state_dict()[key], value), key
