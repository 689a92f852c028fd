from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from contrastive_cli.core.config import build
from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.types import Batch, Contrastive, ImageFacts, Method, Progress, Uncertain
from contrastive_cli.engine.accumulate import backward
from contrastive_cli.losses.contrastive import nt_xent
from contrastive_cli.methods.prob_simclr import ProbSimCLR, ProbSimCLRConfig
from contrastive_cli.methods.simclr import SimCLR, SimCLRConfig
from contrastive_cli.models.encoder import encoder_of
from contrastive_cli.models.encoders import EncoderConfig, build_encoder

PROGRESS = Progress(step=0, total_steps=1)
LOSSES = ("likelihood", "mc-infonce", "elk", "gaussian")


def make(**settings: Any) -> ProbSimCLR:
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(name="resnet9", width=4, embedding_dim=None), channels=1, size=8)
    small = {"projector_hidden": 16, "projector_dim": 8, "kappa_hidden": 8}
    return ProbSimCLR(
        build(ProbSimCLRConfig, {**small, **settings}),
        encoder=encoder,
        images=ImageFacts(count=9, channels=1, size=8),
    )


def make_batch(num_images: int = 6) -> Batch:
    views = torch.randn(2, num_images, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return Batch(views=(views,), indices=torch.arange(num_images))


def test_contrast__is_nt_xent_for_sure_posteriors() -> None:
    mu = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(2))
    projections = torch.cat([mu, torch.full((2, 5, 1), math.log(1e6))], dim=2)
    loss = make(loss="mc-infonce", temperature=0.3).contrast(projections, None).loss
    torch.testing.assert_close(loss, nt_xent(mu[0], mu[1], temperature=0.3), rtol=5e-3, atol=0)


@pytest.mark.parametrize("loss", LOSSES)
def test_contrast__an_outlier_of_the_pair_gains_by_being_unsure(loss: str) -> None:
    # Where the positive points elsewhere, less concentration is the better answer; where it agrees, more is.
    mu = F.normalize(torch.eye(8)[:6].expand(2, 6, 8) + 0.01, dim=2).clone()
    mu[1, 0] = torch.eye(8)[1]
    extra = 8 if loss == "gaussian" else 1
    log_kappa = torch.full((2, 6, extra), math.log(10.0), requires_grad=True)
    torch.manual_seed(0)
    output = make(loss=loss, temperature=0.1, samples=64).contrast(torch.cat([mu, log_kappa], dim=2), None)
    (gradient,) = torch.autograd.grad(output.loss, log_kappa)
    by_image = gradient.sum(dim=2)
    assert by_image[0, 0] > 0
    assert (by_image[:, 2:] < 0).all()


def test_training_loss__draws_come_from_the_generator_of_torch() -> None:
    method, batch = make(loss="mc-infonce").train(), make_batch()
    state = torch.get_rng_state()
    losses = [method.training_loss(batch, PROGRESS).loss.item() for _ in range(2)]
    torch.set_rng_state(state)
    again = [method.training_loss(batch, PROGRESS).loss.item() for _ in range(2)]
    assert losses == again
    assert losses[0] != losses[1]


@pytest.mark.parametrize("loss", LOSSES)
def test_backward__micro_batches_keep_all_negatives(loss: str) -> None:
    gradients = []
    for micro_batch_size in (None, 3):
        method = make(loss=loss).eval()  # batch norm would see other statistics
        assert isinstance(method, Contrastive)
        torch.manual_seed(3)
        backward(
            method,
            make_batch().part,
            PROGRESS,
            batch_size=6,
            micro_batch_size=micro_batch_size,
            autocast=lambda: torch.autocast("cpu", enabled=False),
        )
        gradients.append(
            torch.cat([weight.grad.flatten() for weight in method.parameters() if weight.grad is not None])
        )
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_embed_with_uncertainty__is_embed_and_minus_log_kappa(loss: str) -> None:
    method, batch = make(loss=loss, initial_kappa=50.0).eval(), make_batch()
    assert isinstance(method, Uncertain)
    with torch.no_grad():
        h, uncertainty = method.embed_with_uncertainty(batch.single_views[0])
        projections = method.project(batch.views)
    assert torch.equal(h, method.embed(batch.single_views[0]))
    assert uncertainty.shape == (6,)
    torch.testing.assert_close(uncertainty, -projections[0, :, 8:].mean(dim=1))
    assert (uncertainty + math.log(50.0)).abs().max() < 2


def test_detach_kappa__keeps_the_encoder_out() -> None:
    for detach in (True, False):
        method = make(detach_kappa=detach)
        method.project(make_batch().views)[..., 8:].sum().backward()
        moved = [weight.grad is not None and bool(weight.grad.any()) for weight in method.encoder.parameters()]
        assert any(moved) is not detach


def test_learn_temperature__moves_it() -> None:
    method = make(loss="mc-infonce", learn_temperature=True, temperature=0.2)
    output = method.training_loss(make_batch(), PROGRESS)
    assert output.metrics["temperature"].item() == pytest.approx(0.2)
    output.loss.backward()
    assert method.log_inverse_temperature.grad is not None
    assert method.log_inverse_temperature.grad != 0
    assert not any(name == "log_inverse_temperature" for name, _ in make(loss="mc-infonce").named_parameters())


def test_likelihood__leaves_mu_to_nt_xent() -> None:
    projections = torch.randn(2, 5, 9, generator=torch.Generator().manual_seed(2)).requires_grad_()
    output = make(temperature=0.3).contrast(projections, None)
    expected = nt_xent(projections[0, :, :8], projections[1, :, :8], temperature=0.3)
    torch.testing.assert_close(output.loss.detach() - output.metrics["view_likelihood"], expected.detach())
    (found,) = torch.autograd.grad(output.loss, projections)
    (wanted,) = torch.autograd.grad(expected, projections)
    torch.testing.assert_close(found[..., :8], wanted[..., :8])
    assert found[..., 8].abs().min() > 0


def test_likelihood__trains_the_encoder_of_simclr() -> None:
    def gradients(method: Method) -> dict[str, torch.Tensor]:
        method.train().training_loss(make_batch(), PROGRESS).loss.backward()
        return {name: weight.grad for name, weight in encoder_of(method).named_parameters()}  # type: ignore[misc]

    ours = gradients(make(temperature=0.2))
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(name="resnet9", width=4, embedding_dim=None), channels=1, size=8)
    config = build(SimCLRConfig, {"projector_hidden": 16, "projector_dim": 8, "temperature": 0.2})
    simclr = SimCLR(config, encoder=encoder, images=ImageFacts(count=9, channels=1, size=8))
    for name, gradient in gradients(simclr).items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize(
    ("key", "value"),
    [("learn_temperature", True), ("negatives", "mean")],
)
def test_config__refuses_what_likelihood_has_no_use_for(key: str, value: Any) -> None:
    with pytest.raises(UsageError, match=key):
        build(ProbSimCLRConfig, {key: value})


@pytest.mark.parametrize(
    ("key", "value"), [("loss", "hib"), ("samples", 0), ("initial_kappa", 0), ("projector_dim", 1)]
)
def test_config__refuses(key: str, value: Any) -> None:
    with pytest.raises(UsageError, match=key):
        build(ProbSimCLRConfig, {key: value})
