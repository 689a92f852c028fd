"""Cross-entropy with unlabeled images, against torch's own on the labeled ones."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from contrastive_cli.core.errors import DataError
from contrastive_cli.core.types import Batch, Classifying, ImageFacts, Progress
from contrastive_cli.methods.supervised import Supervised, SupervisedConfig
from contrastive_cli.models.encoders import EncoderConfig, build_encoder

START = Progress(step=0, total_steps=1)


def make(*, smoothing: float = 0.0, classes: int = 3) -> Supervised:
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(name="resnet9", width=4, embedding_dim=8), channels=1, size=8)
    facts = ImageFacts(count=6, channels=1, size=8, num_classes=classes)
    return Supervised(SupervisedConfig(label_smoothing=smoothing), encoder=encoder, images=facts).eval()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_supervised__loss_is_the_mean_over_the_labeled(smoothing: float) -> None:
    method = make(smoothing=smoothing)
    assert isinstance(method, Classifying)
    views = torch.randn(2, 6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 2, -1, 1, -1, 2])
    output = method.training_loss(Batch(views=(views,), indices=torch.arange(6), labels=labels), START)
    known = labels >= 0
    logits = torch.cat([method.classify(view[known]) for view in views])
    expected = F.cross_entropy(logits, labels[known].repeat(2), label_smoothing=smoothing)
    torch.testing.assert_close(output.loss, expected)
    torch.testing.assert_close(output.metrics["accuracy"], (logits.argmax(1) == labels[known].repeat(2)).float().mean())


def test_supervised__a_batch_without_labels_moves_nothing() -> None:
    method = make()
    views = torch.randn(1, 6, 1, 8, 8)
    output = method.training_loss(Batch(views=(views,), indices=torch.arange(6), labels=torch.full((6,), -1)), START)
    output.loss.backward()
    assert output.loss == 0
    assert all(parameter.grad is not None and (parameter.grad == 0).all() for parameter in method.parameters())


def test_supervised__one_class_is_refused() -> None:
    with pytest.raises(DataError, match="two classes"):
        make(classes=1)
