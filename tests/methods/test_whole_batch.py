"""Methods that need the whole batch have the same gradient from parts of it, where batch norm is frozen."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from torch import nn

from contrastive_cli.core.config import build
from contrastive_cli.core.types import AfterStep, Batch, Contrastive, ImageFacts, Method, Progress
from contrastive_cli.engine.accumulate import backward
from contrastive_cli.methods import load_method
from contrastive_cli.models.encoders import EncoderConfig, build_encoder
from contrastive_cli.views.noise import StepNoise

SMALL = {"projector_hidden": 16, "projector_dim": 6}
PLAIN: dict[str, tuple[str, dict[str, Any]]] = {"dino": ("dino", {"num_views": 3, "prototypes": 12})}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "sigreg": ("regularized", {"regularizer": "sigreg", "num_views": 3, "slices": 8}),
    "visreg": ("regularized", {"regularizer": "visreg", "num_views": 3, "slices": 8, "target_views": 2}),
    "vicreg": ("regularized", {"regularizer": "vicreg"}),
    "barlow": ("regularized", {"regularizer": "barlow", "num_views": 3}),
    "frossl": ("regularized", {"regularizer": "frossl"}),
    "tcr": ("regularized", {"regularizer": "tcr", "num_views": 4}),
    "moco-v3": ("moco", {}),
    "moco-v2+": ("moco", {"version": "v2+", "queue_size": 30}),
    "nnclr": ("nnclr", {"queue_size": 30}),
    "swav": ("swav", {"num_views": 3, "prototypes": 12}),
    "swav-queue": ("swav", {"num_views": 2, "prototypes": 12, "queue_size": 10, "queue_start": 0.0}),
}


def make(name: str) -> Method:
    method, settings = (METHODS | PLAIN)[name]
    spec = load_method(method)
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(name="resnet9", width=4, embedding_dim=None), channels=1, size=8)
    facts = ImageFacts(count=30, channels=1, size=8)
    built = spec.build(build(spec.config, {**SMALL, **settings}), encoder=encoder.double(), images=facts)
    built.to(torch.float64)
    for layer in built.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.eval()
    return built


def step(method: Method, micro_batch_size: int | None) -> tuple[float, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    views = torch.randn(method.num_views, 11, 1, 8, 8, generator=generator, dtype=torch.float64)
    indices = torch.arange(11)
    batch = Batch(views=(views,), indices=indices, noise=StepNoise(seed=0, step=3, indices=indices))
    for weight in method.parameters():
        weight.grad = None
    output = backward(
        method,
        batch.part,
        Progress(step=0, total_steps=4),
        batch_size=11,
        micro_batch_size=micro_batch_size,
        autocast=contextlib.nullcontext,
    )
    gradient = torch.cat([weight.grad.flatten() for weight in method.parameters() if weight.grad is not None])
    return output.loss.item(), gradient


def test_backward__a_loss_that_is_a_mean_over_images_needs_no_whole_batch() -> None:
    """DINO: its center moves by the mean of all parts."""
    centers, gradients = [], []
    for size in (None, 4):
        method = make("dino")
        gradients.append(step(method, size)[1])
        assert isinstance(method, AfterStep)
        method.after_step(Progress(step=0, total_steps=4))
        centers.append(method.state_dict()["center"])
    torch.testing.assert_close(gradients[1], gradients[0])
    torch.testing.assert_close(centers[1], centers[0])
    assert centers[0].abs().max() > 0


@pytest.mark.parametrize("name", METHODS)
def test_backward__parts_give_the_gradient_of_the_whole(name: str) -> None:
    method = make(name)
    assert isinstance(method, Contrastive)
    if isinstance(method, AfterStep):  # so that a queue holds something
        step(method, None)
        method.after_step(Progress(step=0, total_steps=4))
    whole, gradient = step(method, None)
    assert gradient.abs().max() > 0
    for size in (4, 6):
        loss, found = step(method, size)
        assert loss == pytest.approx(whole, rel=1e-5)
        torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-5 * float(gradient.abs().max()))
