"""Variational autoencoder: a Gaussian per image instead of a point, kept near the standard normal.

Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, https://arxiv.org/abs/1312.6114; `beta` after Higgins
et al., ICLR 2017. The loss of an image is the negative evidence lower bound of a Gaussian decoder with unit variance in
normalized units, up to a constant: half the squared error summed over channels and pixels, plus beta times the
divergence summed over latent dimensions. Both are sums, in nats, so beta = 1 is the bound itself; code that takes the
mean over pixels instead has a beta that is C*H*W times as large. The mean is the embedding.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Generator, Tensor, nn

from contrastive_cli.core.config import Config
from contrastive_cli.core.types import Batch, ImageFacts, LossOutput, MethodSpec, Progress
from contrastive_cli.models.decoders import Decoder
from contrastive_cli.models.encoder import Encoder

LOG_VARIANCE_LIMIT = 12.0  # beyond e**12 a posterior has nothing to say, and exp would overflow in float16


class VAEConfig(Config):
    """Width of the posterior, weight of the divergence.

    Attributes:
        latent_dim: Width D of the mean, which is the embedding.
        decoder_width: Channels of the decoder's last hidden map; earlier ones have up to 8 times as many.
        beta: Weight of the divergence from the standard normal, in nats per image; 1 is the evidence lower bound for
            unit pixel variance, v is the bound for pixel variance v.
    """

    name: Literal["vae"] = "vae"
    latent_dim: int = Field(64, gt=0)
    decoder_width: int = Field(16, gt=0)
    beta: float = Field(1.0, ge=0)


class VAE(nn.Module):
    """Encoder, mean and log-variance, decoder."""

    def __init__(self, config: VAEConfig, *, encoder: Encoder, images: ImageFacts) -> None:
        super().__init__()
        self.num_views = 1
        self.embedding_dim = config.latent_dim
        self.beta = config.beta
        self.encoder = encoder
        self.posterior = nn.Linear(encoder.embedding_dim, 2 * config.latent_dim)
        self.decoder = Decoder(
            inputs=config.latent_dim, channels=images.channels, size=images.size, width=config.decoder_width
        )

    def training_loss(self, batch: Batch, progress: Progress) -> LossOutput:
        """Mean over images of half the summed squared error plus beta times the divergence, in nats."""
        (images,) = batch.single_views
        mean, log_variance = self._posterior(images)
        noise = batch.normal(mean.shape[1]).to(mean)
        decoded = self.decode(mean + (0.5 * log_variance).exp() * noise)
        error = (decoded.float() - images).square()
        divergence = divergence_from_normal(mean, log_variance).mean()
        loss = 0.5 * error.flatten(1).sum(dim=1).mean() + self.beta * divergence
        return LossOutput(loss=loss, metrics={"reconstruction_error": error.detach().mean(), "kl": divergence.detach()})

    def embed(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> the posterior's mean [B, D]."""
        return self._posterior(images)[0]

    def embed_with_uncertainty(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """[B, C, H, W] -> the mean [B, D] and the log-variance [B], averaged over dimensions."""
        mean, log_variance = self._posterior(images)
        return mean, log_variance.mean(dim=1)

    def decode(self, embeddings: Tensor) -> Tensor:
        """Latent vectors [B, D] -> images [B, C, H, W], normalized."""
        images: Tensor = self.decoder(embeddings)
        return images

    def sample(self, count: int, *, generator: Generator) -> Tensor:
        """[count, D] from the prior, the standard normal."""
        return torch.randn(count, self.embedding_dim, generator=generator).to(self.posterior.weight)

    def _posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.posterior(self.encoder(images)).float().chunk(2, dim=1)  # [B, D] each
        return mean, log_variance.clamp(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT)


def divergence_from_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Kullback-Leibler divergence of diagonal Gaussians [B, D] from the standard normal, in nats.

    Returns:
        [B], summed over dimensions, >= 0.

    Source: Appendix B of Kingma and Welling.
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)


METHOD = MethodSpec(
    summary="an autoencoder with a Gaussian per image, kept near the standard normal",
    config=VAEConfig,
    build=VAE,
    draws_images=True,
    recipe="light",
)
