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
from contrastive_cli.embeddings.space import enter_space, measure_space
from contrastive_cli.engine.inference import evaluating, map_images
from contrastive_cli.services.inference.measured_spaces import LEAST_IMAGES
from contrastive_cli.views.preprocessing import Preprocessing

BANK_SIZE = 2000
EXPONENT = 0.75  # what nearly every run chooses at its end; see docs/space.md
WIDEST = 1024  # the axes of wider embeddings take seconds, at every look


@dataclass(frozen=True, kw_only=True, slots=True)
class OnlineProbe:
    """A fixed, seeded sample of the training images, uint8 [M, C, H, W], and their labels [M] or None.

    `whitens` is whether neighbors are looked for in the whitened space, as the end of the training will.
    """

    pixels: Tensor
    labels: Tensor | None
    preprocessing: Preprocessing
    whitens: bool = False

    @classmethod
    def of(
        cls,
        images: ImageSet,
        source: DeviceImages,
        *,
        preprocessing: Preprocessing,
        seed: int,
        whitens: bool = False,
    ) -> OnlineProbe:
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
            whitens=whitens,
        )

    def measure(self, method: Method, *, precision: Precision) -> dict[str, float]:
        """Leave-one-out kNN-20 accuracy (never of test images), spread and effective rank.

        `online/knn` is that in the space in which neighbors will be looked for, `online/knn_raw` beside it that of h.
        """
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
            raw = self._vote(embeddings, self.labels)
            result["online/knn"] = raw
            width, finite = embeddings.shape[1], bool(embeddings.isfinite().all())
            if self.whitens and finite and len(embeddings) >= LEAST_IMAGES and width <= WIDEST:
                rows = embeddings.cpu().numpy()
                whitened = enter_space(rows, measure_space(rows, exponent=EXPONENT))
                result["online/knn"] = self._vote(torch.from_numpy(whitened).to(embeddings.device), self.labels)
                result["online/knn_raw"] = raw
        return result

    @staticmethod
    def _vote(embeddings: Tensor, labels: Tensor) -> float:
        return (knn_vote(embeddings, labels, queries=None) == labels).float().mean().item()
