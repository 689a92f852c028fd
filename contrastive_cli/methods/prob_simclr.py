"""Probabilistic SimCLR: an image becomes a distribution on the sphere, and how wide it is says how sure the method is.

The projector gives the direction mu, a second head on the same embedding the concentration kappa of a von Mises-Fisher
distribution. By default mu is trained by NT-Xent and kappa by the likelihood of the image's other view. `mc-infonce` is
Monte-Carlo InfoNCE (Kirchhof, Kasneci, Oh, ICML 2023, https://arxiv.org/abs/2302.02865), which trains both; `elk` and
`gaussian` do so in closed form. Why they are not the default: instance discrimination rewards certainty, so that kappa
grows without end at usual temperatures, and what is left of it did not predict errors. The embedding stays h.
"""

from __future__ import annotations

import math
from typing import Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from contrastive_cli.core.config import Config
from contrastive_cli.core.types import Batch, ImageFacts, LossOutput, MethodSpec, Progress
from contrastive_cli.losses.contrastive import nt_xent_multiview, reference_lines
from contrastive_cli.losses.probabilistic import (
    Negatives,
    expected_likelihood,
    gaussian_likelihood,
    mc_info_nce,
    softmax_loss,
    view_likelihood,
)
from contrastive_cli.losses.von_mises_fisher import sample
from contrastive_cli.models.encoder import Encoder
from contrastive_cli.models.heads import build_projector, encode_views


class ProbSimCLRConfig(Config):
    """The posterior, how two of them are compared, and the projector.

    Attributes:
        loss: likelihood is NT-Xent of mu plus `view_likelihood` of kappa; mc-infonce draws samples; elk and gaussian
            are expected-likelihood kernels in closed form, of two von Mises-Fisher or two diagonal Gaussian
            distributions, whose logarithm is the logit (no temperature).
        temperature: Of NT-Xent, or 1 / k of mc-infonce.
        learn_temperature: Start there, and learn it; mc-infonce only.
        samples: Draws S of every posterior in a step of mc-infonce.
        negatives: Their sum in the denominator, as in SimCLR, or their mean, as in the paper.
        initial_kappa: Concentration that all images start near; for gaussian the precision 1 / variance.
        detach_kappa: Keep the gradient of kappa out of the encoder.
        kappa_hidden: Width of the hidden layer of the head of kappa.
        projector_hidden: Width of the hidden layer of the projector.
        projector_dim: Width P of mu; the sphere's dimension.
        projector_layers: Linear layers of the projector.
    """

    name: Literal["prob-simclr"] = "prob-simclr"
    loss: Literal["likelihood", "mc-infonce", "elk", "gaussian"] = "likelihood"
    temperature: float = Field(0.1, gt=0)
    learn_temperature: bool = False
    samples: int = Field(8, ge=1)
    negatives: Negatives = "sum"
    initial_kappa: float = Field(128.0, gt=0, le=1e5)
    detach_kappa: bool = True
    kappa_hidden: int = Field(128, gt=0)
    projector_hidden: int = Field(512, gt=0)
    projector_dim: int = Field(128, ge=2)
    projector_layers: int = Field(2, ge=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.learn_temperature and self.loss != "mc-infonce":
            raise ValueError(f"learn_temperature needs loss: mc-infonce, not {self.loss}")
        if self.negatives != "sum" and self.loss == "likelihood":
            raise ValueError("negatives: mean needs another loss than likelihood")
        return self


LOG_KAPPA_LIMIT = math.log(1e6)


class ProbSimCLR(nn.Module):
    """Encoder, projector for mu, head for log kappa."""

    num_views = 2

    def __init__(self, config: ProbSimCLRConfig, *, encoder: Encoder, images: ImageFacts) -> None:
        super().__init__()
        self.encoder = encoder
        self.embedding_dim = encoder.embedding_dim
        self.projector = build_projector(
            inputs=self.embedding_dim,
            hidden=config.projector_hidden,
            outputs=config.projector_dim,
            layers=config.projector_layers,
        )
        self.kappa_head = build_projector(
            inputs=self.embedding_dim,
            hidden=config.kappa_hidden,
            outputs=config.projector_dim if config.loss == "gaussian" else 1,
        )
        inverse = torch.tensor(math.log(1 / config.temperature))
        if config.learn_temperature:
            self.log_inverse_temperature = nn.Parameter(inverse)
        else:
            self.register_buffer("log_inverse_temperature", inverse)
        self.config = config

    def training_loss(self, batch: Batch, progress: Progress) -> LossOutput:
        """The loss of both views of the batch."""
        seed = None if batch.noise is None else batch.noise.step_seed
        return self.contrast_drawing(self.project(batch.views), batch.labels, seed=seed)

    def project(self, views: tuple[Tensor, ...]) -> Tensor:
        """Groups of views -> [V, B, P + 1] float32: mu, not normalized, and log kappa (for gaussian P values)."""
        embeddings = encode_views(views, encoder=self.encoder)  # [V, B, D]
        h = embeddings.flatten(0, 1)
        mu = self.projector(h).float()
        return torch.cat([mu, self._log_kappa(h)], dim=1).view(*embeddings.shape[:2], -1)

    def contrast(self, projections: Tensor, labels: Tensor | None) -> LossOutput:
        """The configured loss of `project`'s [2, B, P + 1], with draws of torch's generator."""
        return self.contrast_drawing(projections, labels, seed=None)

    def contrast_drawing(self, projections: Tensor, labels: Tensor | None, *, seed: int | None) -> LossOutput:
        """The configured loss of `project`'s [2, B, P + 1]; a whole batch draws from one generator."""
        config = self.config
        with torch.autocast(projections.device.type, enabled=False):
            rows = projections.float().flatten(0, 1)
            mu, log_kappa = F.normalize(rows[:, : config.projector_dim], dim=1), rows[:, config.projector_dim :]
            metrics = {"log_kappa_mean": log_kappa.detach().mean()}
            metrics["log_kappa_std"] = log_kappa.detach().mean(dim=1).std()
            if config.loss == "gaussian":
                loss = softmax_loss(gaussian_likelihood(mu, -log_kappa), negatives=config.negatives)
            elif config.loss == "elk":
                similarity = expected_likelihood(mu, log_kappa.squeeze(1).exp())
                loss = softmax_loss(similarity, negatives=config.negatives)
            elif config.loss == "likelihood":
                kappa = log_kappa.squeeze(1).exp()
                likelihood = view_likelihood(mu.detach(), kappa)
                loss = nt_xent_multiview(mu.view(2, -1, mu.shape[1]), temperature=config.temperature) + likelihood
                metrics["view_likelihood"] = likelihood.detach()
            else:
                loss = self._mc_info_nce(mu, log_kappa.squeeze(1).exp(), seed=seed)
                if config.learn_temperature:
                    metrics["temperature"] = (-self.log_inverse_temperature).detach().exp()
                elif config.negatives == "sum":
                    lines = reference_lines(len(rows) // 2, temperature=config.temperature)
                    metrics |= {
                        f"loss_{name}": torch.tensor(x) for name, x in zip(("chance", "aligned"), lines, strict=True)
                    }
        return LossOutput(loss=loss, metrics=metrics)

    def embed(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> h [B, D]."""
        return self.encoder(images)

    def embed_with_uncertainty(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """[B, C, H, W] -> h [B, D], and -log kappa [B] float32; for gaussian the mean log-variance."""
        h = self.embed(images)
        return h, -self._log_kappa(h).mean(dim=1)

    def _log_kappa(self, h: Tensor) -> Tensor:
        """[M, D] -> [M, 1] float32, or [M, P] for gaussian; bf16 would round it to steps of a few percent of kappa.

        The head sees no norm of h, which grows without end on noise and would pass for certainty.
        """
        with torch.autocast(h.device.type, enabled=False):
            h = F.layer_norm(h.float(), h.shape[1:])
            h = h.detach() if self.config.detach_kappa else h
            log_kappa: Tensor = self.kappa_head(h) + math.log(self.config.initial_kappa)
            return log_kappa.clamp(max=LOG_KAPPA_LIMIT)

    def _mc_info_nce(self, mu: Tensor, kappa: Tensor, *, seed: int | None) -> Tensor:
        seed = int(torch.randint(2**62, ())) if seed is None else seed
        generator = torch.Generator(mu.device).manual_seed(seed)
        draws = sample(mu, kappa, samples=self.config.samples, generator=generator)
        inverse = self.log_inverse_temperature.exp()
        return mc_info_nce(draws, inverse_temperature=inverse, negatives=self.config.negatives)


METHOD = MethodSpec(
    summary="SimCLR whose images are distributions, so that it knows where it is unsure",
    config=ProbSimCLRConfig,
    build=ProbSimCLR,
)
