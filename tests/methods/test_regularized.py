"""The losses of `regularized` where their values are known, and what holds for all of them."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from lightly.loss import FroSSLLoss
from lightly.loss.lejepa_loss import LeJEPALoss
from method_values import known_views
from torch import Tensor

from contrastive_cli.core.config import build
from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.types import Batch, Contrastive, CountingNegatives, Drawing, ImageFacts, Progress
from contrastive_cli.losses.regularizers import sigreg
from contrastive_cli.methods.regularized import Regularized, RegularizedConfig, Regularizer, mean_of_others
from contrastive_cli.models.encoders import EncoderConfig, build_encoder

REGULARIZERS = get_args(Regularizer)


def make(**settings: Any) -> Regularized:
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(name="resnet9", width=4, embedding_dim=None), channels=1, size=8)
    widths = {"projector_hidden": 16, "projector_dim": 8, "slices": 16}
    config = build(RegularizedConfig, {**widths, **settings})
    return Regularized(config, encoder=encoder, images=ImageFacts(count=9, channels=1, size=8)).train()


def loss_of(z: Tensor, **settings: Any) -> float:
    return make(num_views=len(z), **settings).contrast_drawing(z, None, seed=0).loss.item()


@pytest.mark.parametrize(
    ("regularizer", "num_views", "value"),
    [
        ("vicreg", 2, 8.759757),
        ("barlow", 2, 0.0292850),
        ("frossl", 2, -1.719392),
        ("frossl", 3, -2.506505),
        ("tcr", 3, -197.895807),
    ],
)
def test_contrast__known_values(regularizer: str, num_views: int, value: float) -> None:
    assert loss_of(known_views()[:num_views], regularizer=regularizer) == pytest.approx(value, abs=2e-6)


def test_contrast__frossl_equals_lightly() -> None:
    views = torch.randn(4, 10, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    theirs = FroSSLLoss(invariance_weight=1.4)(list(views)).item()
    assert loss_of(views, regularizer="frossl", invariance_weight=1.4) == pytest.approx(theirs, rel=1e-6)


def test_contrast__sigreg_is_lejepas_with_small_views() -> None:
    views = torch.randn(5, 10, 1, generator=torch.Generator().manual_seed(0))  # along a line no seed matters
    theirs = LeJEPALoss(lambda_param=0.05, sigreg_num_vectors=4)(global_proj=views[:2], local_proj=views[2:])
    assert loss_of(views, regularizer="sigreg", target_views=2) == pytest.approx(theirs.item(), rel=1e-5)


def test_contrast__weights_replace_the_published_ones() -> None:
    z = known_views()[:2]
    invariance = (z - z.mean(dim=0)).square().mean().item()
    spread = sigreg(z, slices=16, generator=torch.Generator().manual_seed(0)).item()
    assert loss_of(z, regularizer="sigreg", invariance_weight=2, weight=0) == pytest.approx(2 * invariance)
    assert loss_of(z, regularizer="sigreg", invariance_weight=0, weight=3) == pytest.approx(3 * spread)


def test_mean_of_others__leaves_the_view_itself_out() -> None:
    z = known_views()
    expected = [(z[1] + z[2]) / 2, (z[0] + z[2]) / 2, (z[0] + z[1]) / 2]
    torch.testing.assert_close(mean_of_others(z, targets=3), torch.stack(expected))
    expected = [z[1], z[0], (z[0] + z[1]) / 2]
    torch.testing.assert_close(mean_of_others(z, targets=2), torch.stack(expected))


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_contrast__ignores_the_order_of_views_and_images(regularizer: str) -> None:
    z = torch.randn(4, 12, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    method = make(regularizer=regularizer, num_views=4)
    whole = method.contrast_drawing(z, None, seed=1).loss
    for changed in (z.flip(0), z.flip(1)):
        torch.testing.assert_close(method.contrast_drawing(changed, None, seed=1).loss, whole)


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_contrast__a_collapsed_batch_is_worse_than_a_spread_one(regularizer: str) -> None:
    z = torch.randn(1, 64, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64).expand(2, -1, -1)
    aside = torch.randn(2, 64, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    collapsed = torch.ones_like(z) + 1e-3 * z
    assert loss_of(z, regularizer=regularizer) < loss_of(collapsed, regularizer=regularizer)
    assert loss_of(z, regularizer=regularizer) < loss_of(aside, regularizer=regularizer)


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_training_loss__views_of_two_sizes(regularizer: str) -> None:
    method = make(regularizer=regularizer, num_views=5, target_views=2)
    generator = torch.Generator().manual_seed(0)
    views = tuple(torch.randn(count, 10, 1, side, side, generator=generator) for count, side in ((2, 16), (3, 8)))
    output = method.training_loss(Batch(views=views, indices=torch.arange(10)), Progress(step=0, total_steps=1))
    output.loss.backward()
    assert all(weight.grad is not None and torch.isfinite(weight.grad).all() for weight in method.parameters())
    assert {"invariance", regularizer} <= set(output.metrics)


def test_regularized__holds_the_whole_batch_and_has_no_negatives() -> None:
    method = make()
    assert isinstance(method, Contrastive)
    assert isinstance(method, Drawing)
    assert isinstance(method, CountingNegatives)
    assert method.negatives_per_anchor(256) == 0


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"regularizer": "whitening"}, "regularizer"),
        ({"target_views": 3}, "target_views 3 are more than the 2 views"),
        ({"regularizer": "barlow", "target_views": 1}, "target_views must be 2 or more"),
        ({"weight": -1}, "weight"),
    ],
)
def test_regularized_config__refuses(tree: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(RegularizedConfig, tree)
