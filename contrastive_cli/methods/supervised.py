"""Supervised learning: an encoder and a linear classifier, trained on labels by cross-entropy.

The baseline that says what the labels alone can do, and the body of `clr finetune`, whose encoder comes from another
run. The usual practice; no paper of its own.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from contrastive_cli.core.config import Config
from contrastive_cli.core.errors import DataError
from contrastive_cli.core.types import Batch, ImageFacts, LossOutput, MethodSpec, Progress
from contrastive_cli.models.encoder import Encoder

UNLABELED = -1


class SupervisedConfig(Config):
    """Cross-entropy's one setting.

    Attributes:
        label_smoothing: Part of the target that is spread over all classes.
    """

    name: Literal["supervised"] = "supervised"
    label_smoothing: float = Field(0.0, ge=0, lt=1)


class Supervised(nn.Module):
    """Encoder, linear classifier and cross-entropy.

    Raises:
        DataError: If there are fewer than two classes.
    """

    num_views = 1

    def __init__(self, config: SupervisedConfig, *, encoder: Encoder, images: ImageFacts) -> None:
        super().__init__()
        if images.num_classes < 2:
            raise DataError(f"supervised learning needs two classes or more (given: {images.num_classes})")
        self.encoder = encoder
        self.embedding_dim = encoder.embedding_dim
        self.classifier = nn.Linear(self.embedding_dim, images.num_classes)
        self.label_smoothing = config.label_smoothing

    def training_loss(self, batch: Batch, progress: Progress) -> LossOutput:
        """Mean cross-entropy of the labeled images [B]; 0 where a batch has none."""
        assert batch.labels is not None, "the method needs labels"
        views = batch.single_views
        labels = batch.labels.expand(len(views), -1).flatten()  # [VB]
        logits = self.classify(views[0] if len(views) == 1 else torch.cat(views)).float()
        known = labels != UNLABELED
        count = known.sum().clamp_min(1)
        summed = F.cross_entropy(
            logits, labels, ignore_index=UNLABELED, label_smoothing=self.label_smoothing, reduction="sum"
        )
        right = (logits.detach().argmax(1) == labels) & known
        return LossOutput(loss=summed / count, metrics={"accuracy": right.sum() / count})

    def classify(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> logits [B, K]."""
        logits: Tensor = self.classifier(self.encoder(images))
        return logits

    def embed(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> h [B, D]; the classifier is left out."""
        return self.encoder(images)


METHOD = MethodSpec(
    summary="encoder and linear classifier learn the labels; the supervised baseline",
    config=SupervisedConfig,
    build=Supervised,
    needs_labels=True,
    recipe="light",
)
