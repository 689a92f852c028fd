"""What one optimizer step does, in its order, and that every option of an optimizer reaches it."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from contrastive_cli.core.config import build
from contrastive_cli.core.types import Batch, ImageFacts, LossOutput, Method, Progress
from contrastive_cli.engine.optim import OptimConfig, build_optimizer
from contrastive_cli.engine.train import train
from contrastive_cli.methods.byol import BYOL, BYOLConfig
from contrastive_cli.models.encoders import EncoderConfig, build_encoder


def run(method: Method, optimizer: torch.optim.Optimizer, *, batch: Batch, steps: int = 1, **options: Any) -> None:
    for _ in train(
        method, batch_part=lambda step, piece: batch.part(piece), batch_size=len(batch.indices), optimizer=optimizer,
        learning_rate=lambda step: 0.1, steps=range(steps), autocast=contextlib.nullcontext,
        progress_at=lambda step: Progress(step=step, total_steps=8), **options,
    ):  # fmt: skip
        pass


@pytest.mark.parametrize("micro_batch_size", [None, 2])
def test_train__the_target_of_byol_follows_the_weights_of_this_step(micro_batch_size: int | None) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(name="resnet9", width=4, embedding_dim=None), channels=1, size=8)
    widths = {"projector_hidden": 8, "projector_dim": 4, "predictor_hidden": 8}
    config = build(BYOLConfig, {"tau_base": 0.5, **widths})
    method = BYOL(config, encoder=encoder, images=ImageFacts(count=6, channels=1, size=8)).train()
    pairs = [(method.target_encoder, method.encoder), (method.target_projector, method.projector)]
    before = [[weight.clone() for weight in target.parameters()] for target, _ in pairs]
    batch = Batch(views=(torch.randn(2, 6, 1, 8, 8),), indices=torch.arange(6))
    run(method, torch.optim.SGD(method.parameters(), lr=1.0), batch=batch, micro_batch_size=micro_batch_size)
    moved = 0.0
    for (target, online), olds in zip(pairs, before, strict=True):
        for old, kept, weight in zip(olds, target.parameters(), online.parameters(), strict=True):
            torch.testing.assert_close(kept, 0.5 * old + 0.5 * weight)
            moved += float((weight - old).detach().abs().sum())
    assert moved > 0.1  # else any order would do


class Plane(nn.Module):
    """The gradient of the weights [2, 2] and of the biases [2] is what it is given at each step."""

    def __init__(self, *slopes: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        self.bias = nn.Parameter(torch.tensor([1.0, -1.0]))
        self.slopes = slopes
        self.norms: list[float] = []

    def training_loss(self, batch: Batch, progress: Progress) -> LossOutput:
        slope = self.slopes[int(progress.step)]
        return LossOutput(loss=slope * (self.weight.sum() + self.bias.sum()))

    def after_step(self, progress: Progress) -> None:
        gradients = [weight.grad for weight in self.parameters() if weight.grad is not None]
        self.norms.append(float(torch.cat([gradient.flatten() for gradient in gradients]).norm()))


def small_batch() -> Batch:
    return Batch(views=(torch.zeros(2, 4, 1, 2, 2),), indices=torch.arange(4))


def test_train__a_step_sees_its_own_gradient_alone() -> None:
    method = Plane(1.0, 2.0, 3.0)
    run(method, torch.optim.SGD(method.parameters(), lr=1.0), batch=small_batch(), steps=3)  # type: ignore[arg-type]
    assert method.norms == pytest.approx([6**0.5, 2 * 6**0.5, 3 * 6**0.5])


@pytest.mark.parametrize("micro_batch_size", [None, 2])
def test_train__the_gradient_is_clipped_before_the_step_and_as_a_whole(micro_batch_size: int | None) -> None:
    method = Plane(5.0)
    start = torch.cat([weight.detach().flatten() for weight in method.parameters()]).clone()
    optimizer = torch.optim.SGD(method.parameters(), lr=1.0)
    run(method, optimizer, batch=small_batch(), clip_gradient=0.5, micro_batch_size=micro_batch_size)  # type: ignore[arg-type]
    moved = torch.cat([weight.detach().flatten() for weight in method.parameters()]) - start
    assert moved.norm().item() == pytest.approx(0.1 * 0.5, rel=1e-4)  # the learning rate times the limit


def steps_of(optimizer: torch.optim.Optimizer, weights: list[Tensor], *, count: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=generator)
        optimizer.step()
    return [weight.detach().clone() for weight in weights]


@pytest.mark.parametrize(
    ("config", "reference"),
    [
        ({"name": "sgd", "momentum": 0.8, "nesterov": True}, (torch.optim.SGD, {"momentum": 0.8, "nesterov": True})),
        ({"name": "sgd", "momentum": 0.8}, (torch.optim.SGD, {"momentum": 0.8})),
        ({"name": "adam", "betas": (0.5, 0.7)}, (torch.optim.Adam, {"betas": (0.5, 0.7)})),
        ({"name": "adamw", "betas": (0.5, 0.7)}, (torch.optim.AdamW, {"betas": (0.5, 0.7)})),
    ],
    ids=["nesterov", "sgd", "adam", "adamw"],
)
def test_build_optimizer__every_option_reaches_torch(config: dict[str, Any], reference: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    ours, theirs = Plane(), Plane()
    made, options = reference
    decayed = [{"params": [theirs.weight], "weight_decay": 0.1}, {"params": [theirs.bias], "weight_decay": 0.0}]
    optimizer = build_optimizer(ours, build(OptimConfig, {**config, "weight_decay": 0.1}), lr=0.05)
    expected = steps_of(made(decayed, lr=0.05, **options), [theirs.weight, theirs.bias])
    for found, wanted in zip(steps_of(optimizer, [ours.weight, ours.bias]), expected, strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({"name": "lars", "momentum": 0.7, "trust_coefficient": 0.02}, {"momentum": 0.7, "trust_coefficient": 0.02}),
        ({"name": "muon", "momentum": 0.7, "betas": (0.5, 0.6)}, {"momentum": 0.7, "betas": (0.5, 0.6)}),
    ],
    ids=["lars", "muon"],
)
def test_build_optimizer__every_option_reaches_ours(config: dict[str, Any], wanted: dict[str, Any]) -> None:
    optimizer = build_optimizer(Plane(), build(OptimConfig, {**config, "weight_decay": 0.1}), lr=0.05)
    matrices, vectors = optimizer.param_groups
    for group in (matrices, vectors):
        assert {key: group[key] for key in wanted} == wanted
        assert group["lr"] == 0.05
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.1, 0.0)
    special = "adapt" if config["name"] == "lars" else "orthogonal"
    assert (matrices[special], vectors[special]) == (True, False)
