"""Autodecoder: no encoder; every training image owns a code, found by descent together with the decoder.

After DeepSDF (Park et al., CVPR 2019, https://arxiv.org/abs/1901.05103) and GLO (Bojanowski et al., ICML 2018,
https://arxiv.org/abs/1707.05776), here for images. An image that was not trained on is embedded by optimizing a code
for it, from zero, with the decoder frozen.

The codes of the training images are buffers, not parameters: an optimizer would carry every code along its momentum at
every step, though its image is seen once an epoch, and would touch all N rows to update B of them. `after_step` moves
the rows of the batch alone, along their own gradients, scaled by the root of each row's running mean square.
A new image has one decoder and no hurry: conjugate gradients with the step that Gauss and Newton would take along each
direction, so there is no rate to choose; ten iterations come lower than thirty of Adam.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Generator, Tensor, nn

from contrastive_cli.core.config import Config
from contrastive_cli.core.types import Batch, ImageFacts, LossOutput, MethodSpec, Progress
from contrastive_cli.models.decoders import Decoder

MEMORY = 0.9  # of a code's mean squared gradient, from one visit to the next
PROBE = 0.1  # root mean square of the step that measures a curvature; shorter ones are lost in rounding
TINY = 1e-20
ROUNDING = 1 + 1e-6  # near the minimum float32 cannot tell two losses apart, and the later code is the better one


class AutodecoderConfig(Config):
    """Width of the codes, and how they are found.

    Attributes:
        latent_dim: Width D of a code, which is the embedding.
        decoder_width: Channels of the decoder's last hidden map; earlier ones have up to 8 times as many.
        initial_std: Standard deviation s of the codes at the start.
        prior_weight: Weight of a code's mean square beside the mean squared error of its image; pixels of variance v
            and codes of variance 1 would make it v * D / (C * H * W).
        code_lr: First step of a code, root mean square over its dimensions; falls to 0 by a cosine.
        embed_steps: Iterations that find the code of an image that was not trained on.
    """

    name: Literal["autodecoder"] = "autodecoder"
    latent_dim: int = Field(64, gt=0)
    decoder_width: int = Field(16, gt=0)
    initial_std: float = Field(0.1, ge=0)
    prior_weight: float = Field(1e-3, ge=0)
    code_lr: float = Field(0.1, gt=0)
    embed_steps: int = Field(10, gt=0)


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
            inputs=config.latent_dim, channels=images.channels, size=images.size, width=config.decoder_width
        )
        self.register_buffer("codes", config.initial_std * torch.randn(images.count, config.latent_dim))
        self.register_buffer("second_moments", torch.zeros(images.count))
        self.register_buffer("visits", torch.zeros(images.count))
        self._in_use: list[tuple[Tensor, Tensor]] = []  # of each micro-batch: indices and codes
        self._left: list[tuple[Tensor, ...]] = []  # of each micro-batch of all processes: indices and gradients

    def training_loss(self, batch: Batch, progress: Progress) -> LossOutput:
        """Mean over images of the mean squared error, plus the prior of their codes."""
        (images,) = batch.single_views
        codes = self.codes[batch.indices].requires_grad_()  # [B, D], a copy
        self._in_use.append((batch.indices, codes))
        drawn = self.decode(codes)
        loss = self._losses(codes, drawn, images).mean()
        error = (drawn.detach().float() - images).square().mean()
        return LossOutput(loss=loss, metrics={"reconstruction_error": error, "code_norm": _mean_norm(codes)})

    @torch.no_grad()
    def after_step(self, progress: Progress) -> None:
        """Move the codes of the step's images along the gradients that the loss has left with them."""
        rate = self.config.code_lr * 0.5 * (1 + math.cos(math.pi * progress.fraction))
        own = [(indices, codes.grad) for indices, codes in self._in_use if codes.grad is not None]
        for indices, gradient in [*own, *self._left]:  # one entry a micro-batch
            visits = self.visits[indices] + 1  # [B]
            moment = self.second_moments[indices].lerp(gradient.square().mean(dim=1), 1 - MEMORY)
            scale = (moment / (1 - MEMORY**visits)).sqrt().clamp_min(TINY)
            self.codes[indices] -= rate * gradient / scale[:, None]
            self.second_moments[indices] = moment
            self.visits[indices] = visits
        self._in_use.clear()
        self._left.clear()

    def give_left(self) -> tuple[Tensor, ...]:
        """The indices [b] of the last micro-batch and the gradients of its codes [b, D]."""
        indices, codes = self._in_use.pop()
        assert codes.grad is not None, "the backward pass is done"
        return indices, codes.grad

    def take_left(self, left: list[tuple[Tensor, ...]]) -> None:
        """Those of all processes."""
        self._left = left

    def embed(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> codes [B, D] that draw the images best, each found for itself, from zero, in float32."""
        with torch.autocast(images.device.type, enabled=False):
            images = images.float()
            codes = images.new_zeros(len(images), self.embedding_dim)
            best, best_loss = codes, images.new_full((len(images), 1), math.inf)
            direction, before = torch.zeros_like(codes), torch.ones_like(codes)
            for _ in range(self.config.embed_steps):
                loss, gradient, drawn = self._loss_and_gradient(codes, images)
                best, best_loss = torch.where(loss <= best_loss * ROUNDING, codes, best), loss.minimum(best_loss)
                # Polak and Ribiere's conjugate direction; steepest descent where that would lead uphill.
                turned = _dot(gradient, gradient - before) / _dot(before, before).clamp_min(TINY)
                direction = turned.clamp_min(0) * direction - gradient
                direction = torch.where(_dot(gradient, direction) < 0, direction, -gradient)
                curvature = self._curvature(codes, direction, drawn).clamp_min(TINY)
                codes = codes - _dot(gradient, direction) / curvature * direction
                before = gradient
            with torch.no_grad():
                loss = self._losses(codes, self.decode(codes), images)[:, None]
            return torch.where(loss <= best_loss * ROUNDING, codes, best)

    def _loss_and_gradient(self, codes: Tensor, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of each image the loss [B, 1], its gradient [B, D] and what the code draws; the weights get no gradient."""
        with torch.enable_grad():
            codes = codes.detach().requires_grad_()
            drawn = self.decode(codes)
            losses = self._losses(codes, drawn, images)
            (gradient,) = torch.autograd.grad(losses.sum(), codes)
        return losses.detach()[:, None], gradient, drawn.detach()

    @torch.no_grad()
    def _curvature(self, codes: Tensor, direction: Tensor, drawn: Tensor) -> Tensor:
        """Gauss and Newton's second derivative [B, 1] of each loss along the direction [B, D], from a short step."""
        short = PROBE / direction.square().mean(dim=1, keepdim=True).sqrt().clamp_min(TINY)  # [B, 1]
        change = (self.decode(codes + short * direction) - drawn).flatten(1) / short
        prior = self.config.prior_weight * direction.square().mean(dim=1, keepdim=True)
        curvature: Tensor = 2 * (change.square().mean(dim=1, keepdim=True) + prior)
        return curvature

    def sample(self, count: int, *, generator: Generator) -> Tensor:
        """[count, D] from the normal distribution with the mean and covariance of the training codes, as GLO draws."""
        codes = self.codes.double().cpu()
        mean = codes.mean(dim=0)
        values, vectors = torch.linalg.eigh((codes - mean).T @ (codes - mean) / max(1, len(codes) - 1))
        drawn = torch.randn(count, self.embedding_dim, generator=generator, dtype=torch.float64)
        embeddings: Tensor = mean + drawn * values.clamp_min(0).sqrt() @ vectors.T
        return embeddings.to(self.codes)

    def decode(self, embeddings: Tensor) -> Tensor:
        """Codes [B, D] -> images [B, C, H, W], normalized."""
        images: Tensor = self.decoder(embeddings)
        return images

    def _losses(self, codes: Tensor, drawn: Tensor, images: Tensor) -> Tensor:
        """The mean squared error of every image, plus the prior of its code: [B]."""
        error = (drawn.float() - images).square().flatten(1).mean(dim=1)
        losses: Tensor = error + self.config.prior_weight * codes.square().mean(dim=1)
        return losses


def _mean_norm(codes: Tensor) -> Tensor:
    norm: Tensor = codes.detach().norm(dim=1).mean()
    return norm


def _dot(left: Tensor, right: Tensor) -> Tensor:
    return (left * right).sum(dim=1, keepdim=True)  # [B, 1]


METHOD = MethodSpec(
    summary="a decoder and one code for each image, found by descent; no encoder",
    config=AutodecoderConfig,
    build=Autodecoder,
    has_encoder=False,
    draws_images=True,
    recipe="none",
)
