from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from contrastive_cli.core.config import build
from contrastive_cli.core.types import Batch, ImageFacts, LossOutput, Progress
from contrastive_cli.engine.accumulate import backward
from contrastive_cli.losses.contrastive import nt_xent_multiview
from contrastive_cli.methods.simclr import SimCLR, SimCLRConfig
from contrastive_cli.models.encoders import EncoderConfig, build_encoder

PROGRESS = Progress(step=0, total_steps=1)


class NormFree(nn.Module):
    """A `Contrastive` method without batch norm, so that accumulation is exact."""

    def __init__(self, num_views: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.num_views = num_views
        self.encoder = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(144, 12))
        self.projector = nn.Sequential(nn.Linear(12, 10), nn.Tanh(), nn.Linear(10, 6))
        self.sizes: list[int] = []

    def training_loss(self, batch: Batch, progress: Progress) -> LossOutput:
        return self.contrast(self.project(batch.views), batch.labels)

    def project(self, views: tuple[Tensor, ...]) -> Tensor:
        (group,) = views
        self.sizes.append(group.shape[1])
        projections: Tensor = self.projector(self.encoder(group.flatten(0, 1)))
        return projections.view(*group.shape[:2], -1)

    def contrast(self, projections: Tensor, labels: Tensor | None) -> LossOutput:
        loss = nt_xent_multiview(projections, temperature=0.2)
        return LossOutput(loss=loss, metrics={"seen": torch.tensor(float(projections.shape[1]))})


class Plain(nn.Module):
    """Not contrastive: the loss of a batch is the mean of its images' losses."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
        self.labels_seen: list[int] = []

    def training_loss(self, batch: Batch, progress: Progress) -> LossOutput:
        assert batch.labels is not None
        assert torch.equal(batch.labels, batch.indices % 3)
        self.labels_seen.extend(batch.indices.tolist())
        loss = nn.functional.cross_entropy(self.encoder(batch.single_views[0]), batch.labels)
        return LossOutput(loss=loss, metrics={"mean_index": batch.indices.float().mean()})


def make_batch(num_views: int, num_images: int) -> Batch:
    views = torch.randn(num_views, num_images, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    indices = torch.arange(num_images)
    return Batch(views=(views,), indices=indices, labels=indices % 3)


def gradients(method: nn.Module, batch: Batch, size: int | None) -> tuple[LossOutput, list[Tensor]]:
    method.zero_grad()
    output = backward(
        method,  # type: ignore[arg-type]
        batch.part,
        PROGRESS,
        batch_size=len(batch.indices),
        micro_batch_size=size,
        autocast=contextlib.nullcontext,
    )
    return output, [weight.grad.clone() for weight in method.parameters() if weight.grad is not None]


@pytest.mark.parametrize("num_views", [2, 3])
@pytest.mark.parametrize(("size", "pieces"), [(1, [2, 2, 3]), (2, [2, 2, 3]), (3, [2, 2, 3]), (5, [3, 4])])
def test_backward__micro_batches_give_the_gradient_of_the_whole(num_views: int, size: int, pieces: list[int]) -> None:
    method, batch = NormFree(num_views), make_batch(num_views, 7)
    whole, expected = gradients(method, batch, None)
    method.sizes.clear()
    output, found = gradients(method, batch, size)
    assert method.sizes == 2 * pieces
    torch.testing.assert_close(output.loss, whole.loss)
    assert output.metrics["seen"] == 7
    assert not output.loss.requires_grad
    assert len(found) == len(expected) == 8
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_backward__a_mean_of_small_losses_would_be_another_gradient() -> None:
    method, batch = NormFree(2), make_batch(2, 8)
    _, expected = gradients(method, batch, None)
    method.zero_grad()
    for piece in (slice(0, 4), slice(4, 8)):
        part = Batch(views=(batch.views[0][:, piece],), indices=batch.indices[piece])
        backward(
            method,  # type: ignore[arg-type]
            part.part,
            PROGRESS,
            batch_size=len(part.indices),
            micro_batch_size=None,
            autocast=contextlib.nullcontext,
        )
    total = next(iter(method.parameters())).grad
    assert total is not None
    assert (total / 2 - expected[0]).norm() > 0.05 * expected[0].norm()


@pytest.mark.parametrize("size", [None, 7, 100])
def test_backward__one_pass_when_the_batch_fits(size: int | None) -> None:
    method, batch = NormFree(2), make_batch(2, 7)
    gradients(method, batch, size)
    assert method.sizes == [7]


def test_backward__adds_to_the_gradient_that_is_there() -> None:
    method, batch = NormFree(2), make_batch(2, 6)
    _, once = gradients(method, batch, 2)
    backward(
        method,  # type: ignore[arg-type]
        batch.part,
        PROGRESS,
        batch_size=len(batch.indices),
        micro_batch_size=2,
        autocast=contextlib.nullcontext,
    )
    for weight, gradient in zip(method.parameters(), once, strict=True):
        torch.testing.assert_close(weight.grad, 2 * gradient)


def test_backward__bf16_keeps_the_direction() -> None:
    method, batch = NormFree(2), make_batch(2, 16)
    _, expected = gradients(method, batch, None)
    method.zero_grad()
    backward(
        method,  # type: ignore[arg-type]
        batch.part,
        PROGRESS,
        batch_size=len(batch.indices),
        micro_batch_size=5,
        autocast=lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    )
    found = torch.cat([weight.grad.flatten() for weight in method.parameters() if weight.grad is not None])
    assert torch.cosine_similarity(found, torch.cat([each.flatten() for each in expected]), dim=0) > 0.99


def simclr() -> SimCLR:
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(name="resnet9", width=4, embedding_dim=None), channels=1, size=8)
    settings = {"projector_hidden": 16, "projector_dim": 8}
    return SimCLR(
        build(SimCLRConfig, settings), encoder=encoder, images=ImageFacts(count=12, channels=1, size=8)
    ).train()


def test_backward__running_statistics_move_once_per_piece() -> None:
    method, batch = simclr(), make_batch(2, 10)
    backward(
        method, batch.part, PROGRESS, batch_size=len(batch.indices), micro_batch_size=4, autocast=contextlib.nullcontext
    )
    expected = simclr()
    for piece in (slice(0, 3), slice(3, 6), slice(6, 10)):
        expected.project((batch.views[0][:, piece],))
    found = dict(method.named_buffers())
    assert found
    for name, value in expected.named_buffers():
        torch.testing.assert_close(found[name], value)
        if name.endswith("num_batches_tracked"):
            assert found[name] == 3
    assert all(norm.track_running_stats for norm in method.modules() if isinstance(norm, nn.BatchNorm2d))


def test_backward__running_statistics_are_tracked_again_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    method = simclr()

    def fail(images: Tensor) -> Tensor:
        raise ZeroDivisionError

    monkeypatch.setattr(method.projector, "forward", fail)
    with pytest.raises(ZeroDivisionError):
        backward(
            method, make_batch(2, 8).part, PROGRESS, batch_size=8, micro_batch_size=4, autocast=contextlib.nullcontext
        )
    assert all(norm.track_running_stats for norm in method.modules() if isinstance(norm, nn.BatchNorm2d))


@pytest.mark.parametrize("size", [2, 3, 4])
def test_backward__other_methods_average_over_images(size: int) -> None:
    method, batch = Plain(), make_batch(1, 7)
    whole, expected = gradients(method, batch, None)
    method.labels_seen.clear()
    output, found = gradients(method, batch, size)
    assert method.labels_seen == list(range(7))
    torch.testing.assert_close(output.loss, whole.loss)
    torch.testing.assert_close(output.metrics["mean_index"], torch.tensor(3.0))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_backward__labels_may_be_absent() -> None:
    labels: list[Any] = []

    class Unlabeled(Plain):
        def training_loss(self, batch: Batch, progress: Progress) -> LossOutput:
            labels.append(batch.labels)
            return LossOutput(loss=self.encoder(batch.single_views[0]).square().mean())

    views = make_batch(1, 4).views[0]
    gradients(Unlabeled(), Batch(views=(views,), indices=torch.arange(4)), 2)
    assert labels == [None, None]
