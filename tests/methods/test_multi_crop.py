"""SwAV and DINO: small views predict and are no targets, vision transformers of timm take both sizes, resumption."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from method_steps import check_resumption, take_steps

from contrastive_cli.core.config import build
from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.types import Batch, ImageFacts, Progress
from contrastive_cli.engine.optim import OptimConfig, build_optimizer
from contrastive_cli.losses.cross_view import cross_view_loss
from contrastive_cli.methods import load_method
from contrastive_cli.methods.dino import DINO
from contrastive_cli.methods.swav import SwAV
from contrastive_cli.models.encoders import EncoderConfig, build_encoder
from contrastive_cli.models.heads import first_views, project_views
from contrastive_cli.models.prototypes import sinkhorn

START = Progress(step=0, total_steps=8)
SMALL = {"projector_hidden": 16, "projector_dim": 8, "prototypes": 10, "num_views": 5}
MAKES: dict[str, dict[str, Any]] = {"swav": {"queue_size": 8, "queue_start": 0.0}, "dino": {}}


def make(name: str, *, encoder: EncoderConfig | None = None, size: int = 16, **settings: Any) -> Any:
    torch.manual_seed(0)
    spec = load_method(name)
    config = encoder or EncoderConfig(name="resnet9", width=4, embedding_dim=None)
    facts = ImageFacts(count=9, channels=1, size=size)
    tree = {**SMALL, **MAKES[name], **settings}
    built = spec.build(build(spec.config, tree), encoder=build_encoder(config, channels=1, size=size), images=facts)
    return built.train()


def make_batch(seed: int = 1, size: int = 16, num_images: int = 6) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    views = tuple(
        torch.randn(count, num_images, 1, side, side, generator=generator)
        for count, side in ((2, size), (3, size // 2))
    )
    return Batch(views=views, indices=torch.arange(num_images))


def numbered_batch(step: int) -> Batch:
    return make_batch(seed=step)


def test_first_views__cut_in_the_order_of_the_groups() -> None:
    groups = (torch.zeros(2, 1), torch.ones(3, 1))
    assert [len(group) for group in first_views(groups, 2)] == [2]
    assert [len(group) for group in first_views(groups, 1)] == [1]
    assert [len(group) for group in first_views(groups, 4)] == [2, 2]
    assert [len(group) for group in first_views(groups, 9)] == [2, 3]


@pytest.mark.filterwarnings("ignore::UserWarning")  # timm's own
@pytest.mark.parametrize("name", MAKES)
def test_training_loss__vision_transformer_with_two_sizes_of_views(name: str) -> None:
    pytest.importorskip("timm")
    encoder = EncoderConfig(name="timm/vit_tiny_patch16_224", patch_size=8)
    method = make(name, encoder=encoder)
    optimizer = build_optimizer(method, OptimConfig(), lr=1e-3)
    losses = take_steps(method, optimizer, range(3), None, batch_of=numbered_batch)
    assert all(0 < loss < 10 for loss in losses)
    assert all(weight.grad is not None for weight in method.encoder.parameters())
    assert method.eval().embed(torch.randn(2, 1, 16, 16)).shape == (2, 192)


def test_dino__the_target_sees_large_views_only_and_takes_no_gradient() -> None:
    method: DINO = make("dino")
    seen: list[tuple[int, ...]] = []
    method.target_encoder.register_forward_hook(lambda module, given, out: seen.append(tuple(given[0].shape)))
    targets = [weight for key, weight in method.named_parameters() if key.startswith("target_")]
    for weight in targets:  # even if somebody lets it require one
        weight.requires_grad_(True)
    method.training_loss(make_batch(), START).loss.backward()
    assert seen == [(12, 1, 16, 16)]
    assert all(weight.grad is None for weight in targets)
    online = [weight for key, weight in method.named_parameters() if not key.startswith("target_")]
    assert all(weight.grad is not None and weight.grad.abs().max() > 0 for weight in online)


def test_dino__predicts_the_centered_and_sharpened_scores_of_the_target() -> None:
    method, batch = make("dino", target_temperature=0.05, target_warmup=0.0), make_batch()
    with torch.no_grad():
        method.center.copy_(torch.linspace(-0.5, 0.5, 10))
    scores, large = (  # the target is a copy at the start, whose batch norm sees the large views alone
        method.prototypes(project_views(views, encoder=method.encoder, projector=method.projector)).detach()
        for views in (batch.views, batch.views[:1])
    )
    targets = ((large - method.center) / 0.05).softmax(dim=-1)
    expected = cross_view_loss(scores, targets, temperature=0.1)
    torch.testing.assert_close(method.training_loss(batch, START).loss, expected)


def test_dino__center_is_the_running_mean_of_the_targets_scores() -> None:
    method: DINO = make("dino", center_momentum=0.8)
    hooked: list[torch.Tensor] = []
    method.target_prototypes.register_forward_hook(lambda module, given, out: hooked.append(out))
    expected = torch.zeros(10)
    for step in range(3):
        method.training_loss(make_batch(seed=step), START)
        assert torch.equal(method.center, expected) or step > 0  # not before the step is done
        method.after_step(START)
        expected = 0.8 * expected + 0.2 * hooked[-1].mean(dim=(0, 1))
        torch.testing.assert_close(method.center, expected)


def test_dino__the_targets_temperature_rises_in_the_warm_up() -> None:
    method: DINO = make("dino", target_temperature_start=0.04, target_temperature=0.07, target_warmup=0.5)
    found = [method.target_temperature(Progress(step=step, total_steps=8)) for step in (0, 2, 4, 7)]
    assert found == pytest.approx([0.04, 0.055, 0.07, 0.07])


def test_swav__codes_are_of_large_views_and_predicted_from_all() -> None:
    method: SwAV = make("swav", queue_size=0)
    batch = make_batch()
    scores = method.prototypes(method.project(batch.views))
    codes = torch.stack([sinkhorn(row, eps=0.05, iterations=3) for row in scores[:2].detach()])
    expected = cross_view_loss(scores, codes, temperature=0.1)
    torch.testing.assert_close(make("swav", queue_size=0).training_loss(batch, START).loss, expected)


def test_swav__a_full_queue_is_assigned_along_from_its_start_on() -> None:
    method: SwAV = make("swav", queue_size=6, queue_start=0.5)
    batch = make_batch()
    projections = method.project(batch.views).detach()

    def loss() -> float:
        return method.contrast(projections, None).loss.item()

    method.contrast(method.project(make_batch(seed=5).views).detach(), None)
    method.after_step(Progress(step=0, total_steps=8))  # the queue is full now, but it is early
    alone = method.contrast(projections, None).loss.item()
    method._seen = None
    method.after_step(Progress(step=1, total_steps=8))
    assert loss() == alone
    method._seen = None
    method.after_step(Progress(step=3, total_steps=8))
    assert float(method.done) == 0.5
    together = loss()
    assert together != alone
    scores = method.prototypes(projections)
    codes = []
    for queue, own in zip(method.queues, scores[:2], strict=True):
        both = torch.cat([own, method.prototypes(queue.rows)])
        codes.append(sinkhorn(both, eps=0.05, iterations=3)[:6])
    assert together == pytest.approx(cross_view_loss(scores, torch.stack(codes), temperature=0.1).item(), rel=1e-5)


@pytest.mark.parametrize("micro_batch_size", [None, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", MAKES)
def test_resumed__equals_uninterrupted_bit_for_bit(name: str, micro_batch_size: int | None) -> None:
    check_resumption(lambda: make(name), batch_of=numbered_batch, stopped=3, steps=6, micro_batch_size=micro_batch_size)


@pytest.mark.parametrize("name", MAKES)
def test_config__refuses_more_targets_than_views(name: str) -> None:
    with pytest.raises(UsageError, match="target_views 7 are more than the 6 views"):
        build(load_method(name).config, {"target_views": 7})


@pytest.mark.parametrize("name", MAKES)
def test_spec__groups_of_views_fit_the_method(name: str) -> None:
    spec = load_method(name)
    assert sum(group["count"] for group in spec.view_groups) == build(spec.config, {}).model_dump()["num_views"]
