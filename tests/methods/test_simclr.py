from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from contrastive_cli.core.config import build
from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.types import Batch, Contrastive, ImageFacts, Progress
from contrastive_cli.losses.contrastive import nt_xent
from contrastive_cli.methods.simclr import METHOD, SimCLR, SimCLRConfig
from contrastive_cli.models.encoders import EncoderConfig, build_encoder

PROGRESS = Progress(step=0, total_steps=1)


def make(**settings: Any) -> SimCLR:
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(name="resnet9", width=4, embedding_dim=None), channels=1, size=8)
    return SimCLR(
        build(SimCLRConfig, {"projector_hidden": 16, "projector_dim": 8, **settings}),
        encoder=encoder,
        images=ImageFacts(count=9, channels=1, size=8),
    )


def make_batch(num_views: int, num_images: int = 6) -> Batch:
    views = torch.randn(num_views, num_images, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return Batch(views=(views,), indices=torch.arange(num_images))


def slow_nt_xent(z: Tensor, *, temperature: float, decoupled: bool) -> float:
    """Equation 1 summed over all anchors and their positives, in plain loops; z: [V, B, P]."""
    num_views, num_images, _ = z.shape
    z = nn.functional.normalize(z.double(), dim=-1)
    rows = list(itertools.product(range(num_views), range(num_images)))
    losses = []
    for view, image in rows:
        others = [(v, i) for v, i in rows if i != image or (v != view and not decoupled)]
        partition = sum(math.exp(float(z[view, image] @ z[row]) / temperature) for row in others)
        for other in set(range(num_views)) - {view}:
            losses.append(math.log(partition) - float(z[view, image] @ z[other, image]) / temperature)
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_contrast__equals_nt_xent(temperature: float) -> None:
    z = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(2))
    output = make(temperature=temperature).contrast(z, None)
    torch.testing.assert_close(output.loss, nt_xent(z[0], z[1], temperature=temperature))


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("num_views", [2, 3, 4])
def test_contrast__matches_slow_loops(num_views: int, decoupled: bool) -> None:
    z = torch.randn(num_views, 4, 8, generator=torch.Generator().manual_seed(3))
    output = make(num_views=num_views, decoupled=decoupled, temperature=0.3).contrast(z, None)
    assert output.loss.item() == pytest.approx(slow_nt_xent(z, temperature=0.3, decoupled=decoupled), rel=1e-5)


def test_contrast__equal_projections_give_chance() -> None:
    output = make().contrast(torch.ones(2, 5, 8), None)
    assert output.loss.item() == pytest.approx(math.log(9), rel=1e-6)
    assert output.metrics["loss_chance"].item() == pytest.approx(math.log(9), rel=1e-6)


def test_contrast__one_direction_per_image_gives_aligned() -> None:
    z = torch.eye(8)[:5].expand(2, 5, 8)
    output = make(temperature=0.2).contrast(z, None)
    assert output.loss.item() == pytest.approx(output.metrics["loss_aligned"].item(), rel=1e-5)


@pytest.mark.parametrize("num_views", [2, 3])
def test_project__keeps_views_and_images_apart(num_views: int) -> None:
    method, batch = make(num_views=num_views).eval(), make_batch(num_views)
    with torch.no_grad():
        projections = method.project(batch.views)
        one_by_one = torch.stack([method.projector(method.encoder(view)) for view in batch.single_views])
    assert projections.shape == (num_views, 6, 8)
    torch.testing.assert_close(projections, one_by_one, rtol=1e-4, atol=1e-5)


def test_training_loss__all_views_share_one_batch_norm() -> None:
    method, batch = make(), make_batch(2)
    loss = method.train().training_loss(batch, PROGRESS).loss
    together = method.projector(method.encoder(batch.views[0].flatten(0, 1))).unflatten(0, (2, 6))
    torch.testing.assert_close(loss, method.contrast(together, None).loss)
    norms = [layer for layer in method.modules() if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d)]
    assert {int(layer.num_batches_tracked) for layer in norms if layer.num_batches_tracked is not None} == {2}


def test_training_loss__ignores_the_order_of_views_and_images() -> None:
    method, batch = make(), make_batch(2)
    swapped = Batch(views=(batch.views[0].flip(0).flip(1),), indices=batch.indices.flip(0))
    losses = [method.training_loss(each, PROGRESS).loss for each in (batch, swapped)]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=1e-5)


def test_embed__is_the_encoder_without_the_projector() -> None:
    method, batch = make().eval(), make_batch(2)
    with torch.no_grad():
        assert torch.equal(method.embed(batch.single_views[0]), method.encoder(batch.single_views[0]))


def test_simclr__keeps_all_negatives_under_accumulation() -> None:
    assert isinstance(make(), Contrastive)
    assert not METHOD.needs_labels


@pytest.mark.parametrize(("key", "value"), [("temperature", 0), ("num_views", 1), ("projector_dim", 0), ("tau", 0.1)])
def test_simclr_config__refuses(key: str, value: float) -> None:
    with pytest.raises(UsageError, match=key):
        build(SimCLRConfig, {key: value})
