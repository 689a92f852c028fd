from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from contrastive_cli.core.config import build
from contrastive_cli.core.types import Batch, ImageFacts, LossOutput, Method, Progress
from contrastive_cli.engine.optim import OptimConfig, build_optimizer
from contrastive_cli.engine.schedule import warmup_cosine
from contrastive_cli.engine.train import StepRecord, train
from contrastive_cli.methods.simclr import SimCLR, SimCLRConfig
from contrastive_cli.models.encoders import EncoderConfig, build_encoder

TOTAL = 8


def make_batch(step: int) -> Batch:
    views = torch.randn(2, 6, 1, 8, 8, generator=torch.Generator().manual_seed(step))
    return Batch(views=(views,), indices=torch.arange(6))


def learning_rate(step: int) -> float:
    return warmup_cosine(step, total_steps=TOTAL, warmup_steps=2, base=1e-2)


def setup(optimizer: str) -> tuple[SimCLR, torch.optim.Optimizer]:
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(name="resnet9", width=4, embedding_dim=None), channels=1, size=8)
    settings = {"projector_hidden": 16, "projector_dim": 8}
    method = SimCLR(
        build(SimCLRConfig, settings), encoder=encoder, images=ImageFacts(count=6, channels=1, size=8)
    ).train()
    return method, build_optimizer(method, build(OptimConfig, {"name": optimizer}), lr=1.0)


def run(method: Method, optimizer: torch.optim.Optimizer, steps: range, **options: Any) -> Iterator[StepRecord]:
    return train(
        method, batch_part=lambda step, piece: make_batch(step).part(piece), batch_size=6, optimizer=optimizer,
        learning_rate=learning_rate, steps=steps,
            progress_at=lambda step: Progress(step=step, total_steps=TOTAL), autocast=contextlib.nullcontext, **options,
    )  # fmt: skip


@pytest.mark.parametrize("micro_batch_size", [None, 4])
@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
def test_train__resumed_equals_uninterrupted_bit_for_bit(name: str, micro_batch_size: int | None) -> None:
    whole, optimizer = setup(name)
    records = list(run(whole, optimizer, range(TOTAL), micro_batch_size=micro_batch_size))
    assert [record.step for record in records] == list(range(1, TOTAL + 1))

    first, optimizer = setup(name)
    losses = [record.loss for record in run(first, optimizer, range(3), micro_batch_size=micro_batch_size)]
    file = io.BytesIO()
    torch.save({"method": first.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    torch.manual_seed(99)
    second, optimizer = setup(name)
    with torch.no_grad():
        for weight in second.parameters():
            weight.add_(1)
    second.load_state_dict(saved["method"])
    optimizer.load_state_dict(saved["optimizer"])
    losses += [record.loss for record in run(second, optimizer, range(3, TOTAL), micro_batch_size=micro_batch_size)]

    assert [loss.item() for loss in losses] == [record.loss.item() for record in records]
    for key, value in whole.state_dict().items():
        assert torch.equal(second.state_dict()[key], value), key


def test_train__is_lazy_and_stops_where_the_reader_stops() -> None:
    method, optimizer = setup("sgd")
    before = copy.deepcopy(method.state_dict())
    steps = run(method, optimizer, range(TOTAL))
    assert all(torch.equal(value, before[key]) for key, value in method.state_dict().items())
    next(steps)
    after_one = copy.deepcopy(method.state_dict())
    assert not torch.equal(after_one["projector.0.weight"], before["projector.0.weight"])
    del steps
    assert all(torch.equal(value, after_one[key]) for key, value in method.state_dict().items())


class Linear(nn.Module):
    """The gradient of `weight` is `slope`, whatever the weight is."""

    def __init__(self, slope: list[float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(len(slope)))
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)
        self.slope = torch.tensor(slope)
        self.seen: list[tuple[str, Progress]] = []

    def training_loss(self, batch: Batch, progress: Progress) -> LossOutput:
        self.seen.append(("loss", progress))
        return LossOutput(loss=(self.weight * self.slope).sum(), metrics={"one": torch.tensor(1.0)})

    def after_step(self, progress: Progress) -> None:
        self.seen.append(("after", progress))


def test_train__every_step_has_its_learning_rate() -> None:
    method = Linear([1.0, 2.0])
    optimizer = torch.optim.SGD([{"params": [method.weight]}, {"params": [method.frozen]}], lr=123.0)
    moved = torch.zeros(2)
    for record in run(method, optimizer, range(TOTAL)):  # type: ignore[arg-type]
        rate = learning_rate(record.step - 1)
        moved -= rate * method.slope
        assert record.learning_rate == rate
        assert [group["lr"] for group in optimizer.param_groups] == [rate, rate]
        torch.testing.assert_close(method.weight.detach(), moved)
        assert record.metrics["one"] == 1
        assert not record.loss.requires_grad
    assert method.frozen.item() == 1


def test_train__tells_the_method_where_it_stands() -> None:
    method = Linear([1.0])
    list(run(method, torch.optim.SGD([method.weight], lr=1.0), range(2, 4)))  # type: ignore[arg-type]
    expected = [Progress(step=step, total_steps=TOTAL) for step in (2, 2, 3, 3)]
    assert method.seen == list(zip(["loss", "after", "loss", "after"], expected, strict=True))


@pytest.mark.parametrize(("limit", "norm"), [(None, 5.0), (100.0, 5.0), (0.5, 0.5)])
def test_train__clips_the_norm_of_the_whole_gradient(limit: float | None, norm: float) -> None:
    method = Linear([3.0, -4.0])
    optimizer = torch.optim.SGD([method.weight], lr=1.0)
    next(run(method, optimizer, range(1), clip_gradient=limit))  # type: ignore[arg-type]
    moved = method.weight.detach()
    assert moved.norm().item() == pytest.approx(norm * learning_rate(0), rel=1e-4)
    torch.testing.assert_close(moved / moved.norm(), torch.tensor([-0.6, 0.8]))
