"""Autodecoder: no encoder; every training image owns a code, found by descent together with the decoder.

After DeepSDF (Park et al., CVPR 2019, https://arxiv.org/abs/1901.05103) and GLO (Bojanowski et al., ICML 2018,
https://arxiv.org/abs/1707.05776), here for images. An image that was not trained on is embedded by optimising a code
for it, from zero, with the decoder frozen.

The codes of the training images are buffers, not parameters: an optimiser would carry every code along its momentum at
every step, though its image is seen once an epoch, and would touch all N rows to update B of them. `after_step` moves
the rows of the batch alone, by their own gradients. Both descents scale a code's gradient by one number, the root of
its running mean square (Adam's with one second moment a row), so that no code depends on its neighbours in the batch.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from contrastive_cli.core.config import Config
from contrastive_cli.core.types import Batch, ImageFacts, LossOutput, MethodSpec, Progress
from contrastive_cli.models.decoders import Decoder

MOMENTUM, SECOND_MOMENT, EPSILON = 0.9, 0.9, 1e-12


class AutodecoderConfig(Config):
    """Width of the codes, and how they are found.

    Attributes:
        latent_dim: Width D of a code, which is the embedding.
        decoder_width: Channels of the decoder's last hidden map; earlier ones have up to 8 times as many.
        initial_std: Standard deviation s of the codes at the start.
        prior_weight: Weight of a code's mean square beside the mean squared error of its image; pixels of variance v
            and codes of variance 1 would make it v * D / (C * H * W).
        code_lr: First step of a code, root mean square over its dimensions; falls to 0 by a cosine.
        embed_steps: Steps that find the code of an image that was not trained on.
        embed_lr: As `code_lr`, in those.
    """

    name: Literal["autodecoder"] = "autodecoder"
    latent_dim: int = Field(64, gt=0)
    decoder_width: int = Field(16, gt=0)
    initial_std: float = Field(0.1, ge=0)
    prior_weight: float = Field(1e-3, ge=0)
    code_lr: float = Field(0.1, gt=0)
    embed_steps: int = Field(30, gt=0)
    embed_lr: float = Field(0.1, gt=0)
    norm: bool = True
    inner: int = 0


class Autodecoder(nn.Module):
    """A decoder, and one code for each training image.

    Attributes:
        codes: [N, D], in the order of the training set.
        second_moments: [N], running mean square of each code's gradient, over its dimensions too.
        visits: [N], how often each code was moved.
    """

    codes: Tensor
    second_moments: Tensor
    visits: Tensor

    def __init__(self, config: AutodecoderConfig, *, encoder: None, images: ImageFacts) -> None:
        super().__init__()
        self.num_views = 1
        self.embedding_dim = config.latent_dim
        self.config = config
        self.decoder = Decoder(
            inputs=config.latent_dim, channels=images.channels, size=images.size, width=config.decoder_width,
            norm=config.norm,
        )
        self.register_buffer("codes", config.initial_std * torch.randn(images.count, config.latent_dim))
        self.register_buffer("second_moments", torch.zeros(images.count))
        self.register_buffer("visits", torch.zeros(images.count))
        self._moving: list[tuple[Tensor, Tensor]] = []

    def training_loss(self, batch: Batch, progress: Progress) -> LossOutput:
        """Mean over images of the mean squared error, plus the prior of their codes."""
        images = batch.views[0]
        for _ in range(self.config.inner):
            codes = self.codes[batch.indices].requires_grad_()
            error, prior = self._terms(codes, images)
            (g,) = torch.autograd.grad((error + prior).sum(), codes)
            self._move(batch.indices, g, progress)
        codes = self.codes[batch.indices].requires_grad_()  # [B, D], a copy
        self._moving.append((batch.indices, codes))
        error, prior = self._terms(codes, images)
        loss = (error + prior).mean()
        return LossOutput(
            loss=loss,
            metrics={"reconstruction_error": error.detach().mean(), "code_norm": codes.detach().norm(dim=1).mean()},
        )

    @torch.no_grad()
    def after_step(self, progress: Progress) -> None:
        """Move the codes of the batch along their gradients, which the loss has left with them."""
        moved = [(indices, codes.grad) for indices, codes in self._moving if codes.grad is not None]
        self._moving.clear()
        if not moved:
            return
        for indices, grad in moved:
            self._move(indices, grad, progress)

    @torch.no_grad()
    def _move(self, indices, gradient, progress):
        rate = self.config.code_lr * 0.5 * (1 + math.cos(math.pi * progress.fraction))
        visits = self.visits[indices] + 1
        second = self.second_moments[indices].lerp(gradient.square().mean(dim=1), 1 - SECOND_MOMENT)
        scale = (second / (1 - SECOND_MOMENT**visits)).sqrt() + EPSILON
        self.codes[indices] -= rate * gradient / scale[:, None]
        self.second_moments[indices] = second
        self.visits[indices] = visits

    def embed(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> codes [B, D] that draw the images best, each found for itself, from zero."""
        config = self.config
        codes = images.new_zeros(len(images), config.latent_dim, dtype=torch.float32)
        momentum, second = torch.zeros_like(codes), codes.new_zeros(len(codes))
        with torch.enable_grad(), torch.autocast(images.device.type, enabled=False):
            for step in range(config.embed_steps):
                codes.requires_grad_()
                error, prior = self._terms(codes, images)
                (gradient,) = torch.autograd.grad((error + prior).sum(), codes)
                codes = codes.detach()
                momentum = momentum.lerp(gradient, 1 - MOMENTUM)
                second = second.lerp(gradient.square().mean(dim=1), 1 - SECOND_MOMENT)
                scale = (second / (1 - SECOND_MOMENT ** (step + 1))).sqrt() + EPSILON
                rate = config.embed_lr * 0.5 * (1 + math.cos(math.pi * step / config.embed_steps))
                codes = codes - rate / (1 - MOMENTUM ** (step + 1)) * momentum / scale[:, None]
        return codes

    def decode(self, embeddings: Tensor) -> Tensor:
        """Codes [B, D] -> images [B, C, H, W], normalised."""
        images: Tensor = self.decoder(embeddings)
        return images

    def _terms(self, codes: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        """The mean squared error [B] of every image and the prior [B] of every code."""
        error = (self.decode(codes).float() - images).square().flatten(1).mean(dim=1)
        return error, self.config.prior_weight * codes.float().square().mean(dim=1)


METHOD = MethodSpec(
    summary="a decoder and one code for each image, found by descent; no encoder",
    config=AutodecoderConfig,
    build=Autodecoder,
    has_encoder=False,
    recipe="none",
)
