"""A look at the embedding while it trains: kNN accuracy on training images, spread and effective rank."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from contrastive_cli.core.choices import Precision
from contrastive_cli.core.types import Method
from contrastive_cli.data.cache import ImageSet
from contrastive_cli.data.loader import DeviceImages
from contrastive_cli.embeddings.health import embedding_health
from contrastive_cli.embeddings.probes.knn_vote import knn_vote
from contrastive_cli.engine.inference import evaluating, map_images
from contrastive_cli.views.preprocessing import Preprocessing

BANK_SIZE = 2000


@dataclass(frozen=True, kw_only=True, slots=True)
class OnlineProbe:
    """A fixed, seeded sample of the training images, uint8 [M, C, H, W], and their labels [M] or None."""

    pixels: Tensor
    labels: Tensor | None
    preprocessing: Preprocessing

    @classmethod
    def of(cls, images: ImageSet, source: DeviceImages, *, preprocessing: Preprocessing, seed: int) -> OnlineProbe:
        """Draw the sample among the labeled images where there are enough of them, else among all."""
        labels = torch.from_numpy(images.labels)
        labeled = torch.nonzero(labels >= 0)[:, 0]
        enough = len(labeled) >= max(2, min(BANK_SIZE, images.num_samples // 2))
        candidates = labeled if enough else torch.arange(images.num_samples)
        generator = torch.Generator().manual_seed(seed)
        chosen = candidates[torch.randperm(len(candidates), generator=generator)[:BANK_SIZE]]
        pixels = source.gather(chosen)
        return cls(
            pixels=pixels,
            labels=labels[chosen].to(pixels.device) if enough and images.has_labels else None,
            preprocessing=preprocessing,
        )

    def measure(self, method: Method, *, precision: Precision) -> dict[str, float]:
        """Leave-one-out kNN-20 accuracy (never of test images), spread and effective rank."""
        with evaluating(method):
            (embeddings,) = map_images(
                lambda chunk: (method.embed(self.preprocessing(chunk)).float(),),
                self.pixels,
                size=self.preprocessing.size,
                device=self.pixels.device,
                precision=precision,
            )
        embeddings = embeddings.to(self.pixels.device)  # [M, D]
        spread, effective_rank = embedding_health(embeddings)
        result = {"online/spread": float(spread), "online/effective_rank": float(effective_rank)}
        if self.labels is not None:
            predicted = knn_vote(embeddings, self.labels, queries=None)
            result["online/knn"] = (predicted == self.labels).float().mean().item()
        return result
