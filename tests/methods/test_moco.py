"""MoCo v3 and v2+, and NNCLR, where the losses are known; the queue moves once a step and is resumed."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from method_steps import check_resumption, take_steps
from method_values import known_rows
from torch import Tensor

from contrastive_cli.core.config import build
from contrastive_cli.core.types import Batch, ImageFacts, Progress
from contrastive_cli.engine.optim import OptimConfig, build_optimizer
from contrastive_cli.methods.moco import MoCo, MoCoConfig, in_batch_loss, queue_loss
from contrastive_cli.methods.nnclr import NNCLR, NNCLRConfig, neighbor_loss
from contrastive_cli.models.encoders import EncoderConfig, build_encoder
from contrastive_cli.models.queue import VectorQueue

START = Progress(step=0, total_steps=8)
MAKES: dict[str, dict[str, Any]] = {
    "v3": {},
    "v2+": {"version": "v2+", "queue_size": 40},
    "nnclr": {"queue_size": 20},
}


def make(kind: str, **settings: Any) -> MoCo | NNCLR:
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(name="resnet9", width=4, embedding_dim=None), channels=1, size=8)
    facts = ImageFacts(count=9, channels=1, size=8)
    tree = {"projector_hidden": 16, "projector_dim": 8, "predictor_hidden": 12, **MAKES[kind], **settings}
    if kind == "nnclr":
        return NNCLR(build(NNCLRConfig, tree), encoder=encoder, images=facts).train()
    return MoCo(build(MoCoConfig, tree), encoder=encoder, images=facts).train()


def make_batch(num_images: int = 6, seed: int = 1) -> Batch:
    views = torch.randn(2, num_images, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return Batch(views=(views,), indices=torch.arange(num_images))


def numbered_batch(step: int) -> Batch:
    return make_batch(seed=step)


def unit(shift: float) -> Tensor:
    return F.normalize(known_rows(shift), dim=1)


def test_in_batch_loss__known_values() -> None:
    assert in_batch_loss(unit(1.0), unit(1.3), temperature=0.2).item() == pytest.approx(0.250202, abs=1e-6)
    assert in_batch_loss(unit(1.3), unit(1.0), temperature=0.2).item() == pytest.approx(0.255978, abs=1e-6)
    alike = unit(1.0)[:1].expand(6, -1)
    assert in_batch_loss(alike, alike, temperature=0.2).item() == pytest.approx(0.4 * math.log(6))


def test_queue_loss__known_value_and_slow_reference() -> None:
    queries, keys, negatives = unit(1.0), unit(1.3), unit(0.8)
    found = queue_loss(queries, keys, negatives=negatives, temperature=0.2).item()
    assert found == pytest.approx(0.929787, abs=1e-6)
    slow = []
    for query, key in zip(queries, keys, strict=True):
        own = math.exp(float(query @ key) / 0.2)
        slow.append(-math.log(own / (own + sum(math.exp(float(query @ row) / 0.2) for row in negatives))))
    assert found == pytest.approx(sum(slow) / 6)


def test_neighbor_loss__known_value_with_neighbors_of_a_queue() -> None:
    queue = VectorQueue(6, dimension=3).double()
    queue.push(known_rows(0.8))
    neighbors = queue.nearest(unit(1.0))
    torch.testing.assert_close(neighbors, unit(0.8)[[0, 1, 2, 4, 4, 5]], atol=1e-6, rtol=0)
    assert neighbor_loss(neighbors, unit(1.3), temperature=0.2).item() == pytest.approx(0.562578, abs=1e-6)


def test_moco__v3_is_the_sum_of_both_directions() -> None:
    method, batch = make("v3"), make_batch()
    assert isinstance(method, MoCo)
    rows = F.normalize(method.project(batch.views), dim=-1)
    expected = in_batch_loss(rows[0], rows[3], temperature=0.2) + in_batch_loss(rows[1], rows[2], temperature=0.2)
    torch.testing.assert_close(make("v3").training_loss(batch, START).loss, expected)


def test_nnclr__before_the_queue_holds_anything_the_other_view_is_the_positive() -> None:
    method, batch = make("nnclr"), make_batch()
    rows = F.normalize(method.project(batch.views), dim=-1)
    expected = [neighbor_loss(rows[2 + k], rows[1 - k], temperature=0.1) for k in (0, 1)]
    output = make("nnclr").training_loss(batch, START)
    torch.testing.assert_close(output.loss, (expected[0] + expected[1]) / 2)
    assert output.metrics["neighbor_cosine"].item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("kind", ["v3", "v2+"])
def test_moco__no_gradient_reaches_the_target(kind: str) -> None:
    method = make(kind)
    target = [weight for name, weight in method.named_parameters() if name.startswith("target_")]
    assert target
    for weight in target:  # even if somebody lets it require one
        weight.requires_grad_(True)
    method.training_loss(make_batch(), START).loss.backward()
    assert all(weight.grad is None for weight in target)
    online = [weight for name, weight in method.named_parameters() if not name.startswith("target_")]
    assert all(weight.grad is not None and weight.grad.abs().max() > 0 for weight in online)


@pytest.mark.parametrize("kind", MAKES)
def test_project__keys_carry_no_gradient(kind: str) -> None:
    method = make(kind)
    method.project(make_batch().views)[2:].sum().backward()
    assert all(weight.grad is None or weight.grad.abs().max() == 0 for weight in method.parameters())


@pytest.mark.parametrize(("kind", "pushed"), [("v2+", 12), ("nnclr", 6)])
def test_after_step__pushes_the_whole_batch_once(kind: str, pushed: int) -> None:
    """Whether in one pass or in parts, and not before the step is done."""
    for micro_batch_size in (None, 2):
        method = make(kind)
        assert method.queue is not None
        before = method.queue.rows.clone()
        optimizer = build_optimizer(method, OptimConfig(), lr=1e-3)
        take_steps(method, optimizer, range(1), micro_batch_size, batch_of=numbered_batch)
        assert int(method.queue.filled) == pushed
        assert torch.equal(method.queue.rows[pushed:], before[pushed:])
        method.training_loss(make_batch(), START)
        assert int(method.queue.filled) == pushed
        method.after_step(START)
        method.after_step(START)
        assert int(method.queue.filled) == min(2 * pushed, len(before))


@pytest.mark.parametrize(("kind", "count"), [("v3", 255), ("v2+", 40), ("nnclr", 255)])
def test_negatives_per_anchor(kind: str, count: int) -> None:
    assert make(kind).negatives_per_anchor(256) == count


@pytest.mark.parametrize("micro_batch_size", [None, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", MAKES)
def test_resumed__equals_uninterrupted_bit_for_bit(kind: str, micro_batch_size: int | None) -> None:
    stopped = 5  # the queue has gone round
    check_resumption(
        lambda: make(kind), batch_of=numbered_batch, stopped=stopped, steps=8, micro_batch_size=micro_batch_size
    )
