"""Autoencoder: the image goes through a narrow code and has to come out again.

Hinton and Salakhutdinov, "Reducing the Dimensionality of Data with Neural Networks", Science 2006,
https://doi.org/10.1126/science.1127647; with `noise`, the denoising autoencoder of Vincent et al., ICML 2008,
https://doi.org/10.1145/1390156.1390294. The code, not the encoder's output, is the embedding: it is what the image is
drawn from.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from contrastive_cli.core.config import Config
from contrastive_cli.core.types import Batch, ImageFacts, LossOutput, MethodSpec, Progress
from contrastive_cli.models.decoders import Decoder
from contrastive_cli.models.encoder import Encoder


class AutoencoderConfig(Config):
    """Width of the bottleneck, and of the decoder.

    Attributes:
        latent_dim: Width D of the code, which is the embedding.
        decoder_width: Channels of the decoder's last hidden map; earlier ones have up to 8 times as many.
        noise: Standard deviation of Gaussian noise on the encoder's input, in normalized units; the output is still
            compared with the clean image.
    """

    name: Literal["autoencoder"] = "autoencoder"
    latent_dim: int = Field(64, gt=0)
    decoder_width: int = Field(16, gt=0)
    noise: float = Field(0.0, ge=0)


class Autoencoder(nn.Module):
    """Encoder, a linear bottleneck, decoder and the mean squared error."""

    def __init__(self, config: AutoencoderConfig, *, encoder: Encoder, images: ImageFacts) -> None:
        super().__init__()
        self.num_views = 1
        self.embedding_dim = config.latent_dim
        self.noise = config.noise
        self.encoder = encoder
        self.bottleneck = nn.Linear(encoder.embedding_dim, config.latent_dim)
        self.decoder = Decoder(
            inputs=config.latent_dim, channels=images.channels, size=images.size, width=config.decoder_width
        )

    def training_loss(self, batch: Batch, progress: Progress) -> LossOutput:
        """Mean over images, channels and pixels of the squared error, in normalized units: 1 is the error of gray."""
        (images,) = batch.single_views
        seen = images
        if self.noise > 0:
            seen = images + self.noise * batch.normal(images[0].numel()).view(images.shape).to(images)
        loss = (self.decode(self.embed(seen)).float() - images).square().mean()
        return LossOutput(loss=loss, metrics={"reconstruction_error": loss.detach()})

    def embed(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> code [B, D]."""
        codes: Tensor = self.bottleneck(self.encoder(images))
        return codes

    def decode(self, embeddings: Tensor) -> Tensor:
        """Codes [B, D] -> images [B, C, H, W], normalized."""
        images: Tensor = self.decoder(embeddings)
        return images


METHOD = MethodSpec(
    summary="the image has to come back out of a narrow code",
    config=AutoencoderConfig,
    build=Autoencoder,
    draws_images=True,
    recipe="light",
)
