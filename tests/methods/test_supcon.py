from __future__ import annotations

import contextlib
import math
from typing import Any

import pytest
import torch

from contrastive_cli.core.config import build
from contrastive_cli.core.types import Batch, Contrastive, ImageFacts, Progress
from contrastive_cli.engine.accumulate import backward
from contrastive_cli.losses.contrastive import sup_con
from contrastive_cli.methods.supcon import METHOD, SupCon, SupConConfig
from contrastive_cli.models.encoders import EncoderConfig, build_encoder

PROGRESS = Progress(step=0, total_steps=1)


def make(**settings: Any) -> SupCon:
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(name="resnet9", width=4, embedding_dim=None), channels=1, size=8)
    config = build(SupConConfig, {"projector_hidden": 16, "projector_dim": 8, **settings})
    return SupCon(config, encoder=encoder, images=ImageFacts(count=9, channels=1, size=8))


def make_batch(labels: list[int], num_views: int = 2) -> Batch:
    views = torch.randn(num_views, len(labels), 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return Batch(views=(views,), indices=torch.arange(len(labels)), labels=torch.tensor(labels))


@pytest.mark.parametrize("positives", ["out", "in"])
@pytest.mark.parametrize("num_views", [1, 2, 3])
def test_contrast__is_sup_con_of_all_views_with_repeated_labels(num_views: int, positives: Any) -> None:
    z = torch.randn(num_views, 4, 8, generator=torch.Generator().manual_seed(2))
    output = make(positives=positives, temperature=0.2).contrast(z, torch.tensor([0, 1, 1, 0]))
    rows = torch.tensor([0, 1, 1, 0] * num_views)
    torch.testing.assert_close(output.loss, sup_con(z.flatten(0, 1), rows, temperature=0.2, positives=positives))


def test_contrast__counts_anchors_without_positive() -> None:
    labels = torch.tensor([0, 0, 1, -1])
    for num_views, left_out in ((1, 2), (2, 2)):  # two views: the lone image has its own, the unlabeled one none
        metrics = make().contrast(torch.randn(num_views, 4, 8), labels).metrics
        assert metrics["anchors_without_positive"].item() == left_out


def test_contrast__reference_lines_are_reached() -> None:
    labels = torch.tensor([0, 0, 1, 2])
    collapsed = make().contrast(torch.ones(2, 4, 8), labels)
    assert collapsed.loss.item() == pytest.approx(collapsed.metrics["loss_chance"].item(), rel=1e-5)
    apart = make(temperature=0.5).contrast(torch.eye(8)[labels].expand(2, 4, 8), labels)
    assert apart.loss.item() == pytest.approx(apart.metrics["loss_aligned"].item(), rel=1e-5)
    assert apart.metrics["loss_aligned"].item() == pytest.approx(
        (math.log(3 + 4 * math.exp(-2)) + math.log(1 + 6 * math.exp(-2))) / 2, rel=1e-5
    )


def test_supcon__accumulation_gives_the_gradient_of_the_whole_batch() -> None:
    batch = make_batch([0, 1, 1, 0, 2, 2])
    gradients = []
    for size in (None, 2):
        method = make().double().eval()  # eval: the statistics of batch norm are a micro-batch's otherwise
        doubled = Batch(views=(batch.views[0].double(),), indices=batch.indices, labels=batch.labels)
        backward(
            method,
            doubled.part,
            PROGRESS,
            batch_size=len(doubled.indices),
            micro_batch_size=size,
            autocast=contextlib.nullcontext,
        )
        gradients.append([weight.grad for weight in method.parameters()])
    assert isinstance(make(), Contrastive)
    torch.testing.assert_close(gradients[0], gradients[1])
    assert METHOD.needs_labels
