"""The loss of SwAV and DINO beside lightly's two, loops, and known values."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import DINOLoss, SwaVLoss
from lightly.loss.swav_loss import sinkhorn as their_sinkhorn
from method_values import known_rows
from torch import Tensor

from contrastive_cli.losses.cross_view import cross_view_loss
from contrastive_cli.models.prototypes import Prototypes, sinkhorn


def random_scores(num_views: int, num_images: int = 7, classes: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(num_views, num_images, classes, generator=generator, dtype=torch.float64) * 2 - 1


def unit(shift: float) -> Tensor:
    return F.normalize(known_rows(shift), dim=1)


def test_cross_view_loss__swavs_known_value() -> None:
    scores = torch.stack([unit(1.0), unit(1.3)])
    codes = torch.stack([sinkhorn(row, eps=0.05, iterations=3) for row in scores])
    assert cross_view_loss(scores, codes, temperature=0.1).item() == pytest.approx(1.179990, abs=1e-6)


def test_cross_view_loss__dinos_known_value() -> None:
    first, second = unit(1.0), unit(1.3)
    targets = (first / 0.04).softmax(dim=1)
    one_direction = cross_view_loss(torch.stack([first, second]), targets[None], temperature=0.1)
    assert one_direction.item() == pytest.approx(0.0957034, abs=1e-6)


@pytest.mark.parametrize("small", [0, 3])
def test_cross_view_loss__equals_lightlys_swav(small: int) -> None:
    scores = random_scores(2 + small)
    codes = torch.stack([sinkhorn(row, eps=0.05, iterations=3) for row in scores[:2]])
    theirs = SwaVLoss(temperature=0.1)(list(scores[:2]), list(scores[2:]))
    torch.testing.assert_close(cross_view_loss(scores, codes, temperature=0.1), theirs.squeeze(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("small", [0, 4])
def test_cross_view_loss__equals_lightlys_dino(small: int) -> None:
    scores, target = random_scores(2 + small), random_scores(2).flip(1)
    theirs = DINOLoss(output_dim=5)(list(target), list(scores), teacher_temp=0.04)
    found = cross_view_loss(scores, (target / 0.04).softmax(dim=-1), temperature=0.1)
    torch.testing.assert_close(found, theirs, rtol=1e-5, atol=1e-6)


def test_cross_view_loss__slow_loops() -> None:
    scores, targets = random_scores(4), random_scores(3).softmax(dim=-1)
    terms = []
    for t in range(3):
        for v in range(4):
            if v != t:
                for image in range(7):
                    row = (scores[v, image] / 0.3).tolist()
                    whole = math.log(sum(math.exp(x) for x in row))
                    terms.append(sum(q * (whole - x) for q, x in zip(targets[t, image].tolist(), row, strict=True)))
    assert cross_view_loss(scores, targets, temperature=0.3).item() == pytest.approx(sum(terms) / len(terms))


def test_cross_view_loss__keeps_its_precision_under_autocast() -> None:
    scores, targets = random_scores(3).float(), random_scores(2).float().softmax(dim=-1)
    expected = cross_view_loss(scores, targets, temperature=0.05)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(cross_view_loss(scores, targets, temperature=0.05), expected)


def test_cross_view_loss__refuses() -> None:
    with pytest.raises(ValueError, match="temperature must be above 0"):
        cross_view_loss(random_scores(2), random_scores(2), temperature=0)
    with pytest.raises(ValueError, match="at most as many targets, not 2 and 3"):
        cross_view_loss(random_scores(2), random_scores(3), temperature=1)
    with pytest.raises(ValueError, match="two views or more"):
        cross_view_loss(random_scores(1), random_scores(1), temperature=1)


def test_sinkhorn__equals_lightlys_and_evens_out() -> None:
    scores = random_scores(1, num_images=30, classes=6)[0]
    torch.testing.assert_close(sinkhorn(scores, eps=0.05, iterations=3), their_sinkhorn(scores), rtol=1e-9, atol=1e-12)
    plan = sinkhorn(scores, eps=0.5, iterations=200)
    torch.testing.assert_close(plan.sum(dim=1), torch.ones(30, dtype=torch.float64))
    torch.testing.assert_close(plan.sum(dim=0), torch.full((6,), 5.0, dtype=torch.float64), atol=1e-6, rtol=0)


def test_sinkhorn__stays_finite_where_all_rows_want_one_prototype() -> None:
    scores = torch.tensor([[1.0, -1.0, -1.0]]).expand(4, 3)
    plan = sinkhorn(scores, eps=0.01, iterations=3)
    assert torch.isfinite(plan).all()
    torch.testing.assert_close(plan.sum(dim=1), torch.ones(4))


def test_prototypes__are_cosines_of_any_length() -> None:
    torch.manual_seed(0)
    prototypes, z = Prototypes(4, dimension=3), known_rows(1.0).float()
    expected = F.cosine_similarity(z[:, None], prototypes.weight[None], dim=2)
    torch.testing.assert_close(prototypes(5 * z), expected)
    with torch.no_grad():
        prototypes.weight.mul_(3)
    torch.testing.assert_close(prototypes(z), expected)
