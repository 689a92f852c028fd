"""The methods that draw an image again from its embedding: autoencoder, VAE, autodecoder."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from contrastive_cli.core.config import build
from contrastive_cli.core.types import Batch, Generative, ImageFacts, Method, Progress, Reconstructing, Uncertain
from contrastive_cli.engine.accumulate import backward
from contrastive_cli.engine.optim import OptimConfig, build_optimizer
from contrastive_cli.engine.train import train
from contrastive_cli.methods import load_method
from contrastive_cli.methods.vae import divergence_from_normal
from contrastive_cli.models.encoders import EncoderConfig, build_encoder

NAMES = ["autoencoder", "vae", "autodecoder"]
FACTS = ImageFacts(count=12, channels=1, size=8)
PROGRESS = Progress(step=0, total_steps=8)


def make(name: str, **settings: Any) -> Any:
    spec = load_method(name)
    torch.manual_seed(0)
    encoder = None
    if spec.has_encoder:
        encoder = build_encoder(EncoderConfig(name="resnet9", width=4, embedding_dim=None), channels=1, size=8)
    config = build(spec.config, {"latent_dim": 4, "decoder_width": 4, **settings})
    return spec.build(config, encoder=encoder, images=FACTS)


def make_batch(seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(1, 6, 1, 8, 8, generator=generator)
    return Batch(views=(images,), indices=torch.randperm(12, generator=generator)[:6])


@pytest.mark.parametrize("name", NAMES)
def test_method__embeds_and_draws(name: str) -> None:
    method = make(name).eval()
    assert isinstance(method, Reconstructing)
    assert isinstance(method, Generative) == (name != "autoencoder")
    assert isinstance(method, Uncertain) == (name == "vae")
    with torch.no_grad():
        assert method.decode(method.embed(make_batch().single_views[0])).shape == (6, 1, 8, 8)  # type: ignore[attr-defined]


@pytest.mark.parametrize("micro_batch_size", [None, 4])
@pytest.mark.parametrize("name", NAMES)
def test_method__resumed_equals_uninterrupted_bit_for_bit(name: str, micro_batch_size: int | None) -> None:
    def run(method: Method, optimizer: torch.optim.Optimizer, steps: range) -> list[float]:
        records = train(
            method.train(), batch_part=lambda step, piece: make_batch(step).part(piece), batch_size=6,
            optimizer=optimizer,
            learning_rate=lambda step: 1e-2, steps=steps,
            progress_at=lambda step: Progress(step=step, total_steps=8), autocast=contextlib.nullcontext,
            micro_batch_size=micro_batch_size,
        )  # fmt: skip
        return [record.loss.item() for record in records]

    def setup() -> tuple[Any, torch.optim.Optimizer]:
        method = make(name)
        return method, build_optimizer(method, OptimConfig(), lr=1.0)

    whole, optimizer = setup()
    expected = run(whole, optimizer, range(8))
    first, optimizer = setup()
    losses = run(first, optimizer, range(3))
    file = io.BytesIO()
    rng = torch.get_rng_state()
    torch.save({"method": first.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    second, optimizer = setup()
    with torch.no_grad():
        for tensor in second.state_dict().values():
            tensor.add_(1)
    second.load_state_dict(saved["method"])
    optimizer.load_state_dict(saved["optimizer"])
    torch.set_rng_state(rng)
    losses += run(second, optimizer, range(3, 8))
    assert losses == expected
    for key, value in whole.state_dict().items():
        assert torch.equal(second.state_dict()[key], value), key


def test_autoencoder__loss_is_the_mean_squared_error_and_noise_only_reaches_the_encoder() -> None:
    batch = make_batch()
    clean, noisy = make("autoencoder").eval(), make("autoencoder", noise=2.0).eval()
    drawn = clean.decode(clean.embed(batch.single_views[0]))
    expected = nn.functional.mse_loss(drawn, batch.single_views[0])
    torch.testing.assert_close(clean.training_loss(batch, PROGRESS).loss, expected)
    torch.manual_seed(3)
    loss = noisy.training_loss(batch, PROGRESS).loss
    torch.manual_seed(3)
    seen = batch.single_views[0] + 2 * torch.randn(6, 1, 8, 8)
    torch.testing.assert_close(loss, nn.functional.mse_loss(noisy.decode(noisy.embed(seen)), batch.single_views[0]))
    assert torch.equal(noisy.embed(batch.single_views[0]), noisy.embed(batch.single_views[0]))


def test_divergence_from_normal__matches_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    posterior = Normal(mean, (0.5 * log_variance).exp())
    expected = kl_divergence(posterior, Normal(torch.zeros_like(mean), torch.ones_like(mean))).sum(dim=1)
    torch.testing.assert_close(divergence_from_normal(mean, log_variance), expected)
    assert divergence_from_normal(torch.zeros(1, 3), torch.zeros(1, 3)).item() == 0


def test_vae__loss_is_the_negative_evidence_lower_bound_up_to_a_constant() -> None:
    beta = 0.3
    vae, batch = make("vae", beta=beta).eval(), make_batch()
    images = batch.single_views[0]
    with torch.no_grad():
        torch.manual_seed(5)
        loss = vae.training_loss(batch, PROGRESS).loss
        mean, log_variance = vae.posterior(vae.encoder(images)).chunk(2, dim=1)
        torch.manual_seed(5)
        posterior = Normal(mean, (0.5 * log_variance).exp())
        drawn = vae.decode(mean + posterior.stddev * torch.randn(6, 4))
        constant = Normal(0.0, 1.0).log_prob(torch.zeros(())) * 64
        log_likelihood = Normal(drawn, 1.0).log_prob(images).sum(dim=(1, 2, 3)) - constant
        divergence = kl_divergence(posterior, Normal(0.0, 1.0)).sum(dim=1)
    torch.testing.assert_close(loss, (beta * divergence - log_likelihood).mean())


def test_vae__mean_is_the_embedding_and_the_log_variance_its_uncertainty() -> None:
    vae, images = make("vae").eval(), make_batch().single_views[0]
    with torch.no_grad():
        mean, uncertainty = vae.embed_with_uncertainty(images)
        expected = vae.posterior(vae.encoder(images))
    assert torch.equal(mean, vae.embed(images))
    torch.testing.assert_close(mean, expected[:, :4])
    torch.testing.assert_close(uncertainty, expected[:, 4:].mean(dim=1))


def test_vae__samples_of_the_prior_are_standard_normal() -> None:
    draws = [make("vae").sample(4000, generator=torch.Generator().manual_seed(1)) for _ in range(2)]
    assert torch.equal(draws[0], draws[1])
    torch.testing.assert_close(draws[0].T.cov(), torch.eye(4), atol=0.1, rtol=0)
    torch.testing.assert_close(draws[0].mean(dim=0), torch.zeros(4), atol=0.1, rtol=0)


class LinearDecoder(nn.Module):
    """Images that are linear in the code, so that the best code has a closed form."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(4, 64)

    def forward(self, codes: Tensor) -> Tensor:
        return self.map(codes).unflatten(1, (1, 8, 8))  # type: ignore[no-any-return]


def test_autodecoder__embeds_by_ridge_regression_where_the_decoder_is_linear() -> None:
    method = make("autodecoder", prior_weight=0.5, embed_steps=4)  # conjugate gradients end after D steps
    method.decoder = LinearDecoder().requires_grad_(False)
    images = make_batch().single_views[0]
    with torch.no_grad():
        found = method.embed(images)
    weight, bias = method.decoder.map.weight.double(), method.decoder.map.bias.double()
    penalty = 0.5 / 4 * torch.eye(4, dtype=torch.float64)
    expected = torch.linalg.solve(
        weight.T @ weight / 64 + penalty, weight.T @ (images.flatten(1).double() - bias).T / 64
    )
    torch.testing.assert_close(found.double(), expected.T, rtol=1e-3, atol=1e-4)


def test_autodecoder__embedding_an_image_ignores_the_others_and_leaves_the_decoder_alone() -> None:
    method, images = make("autodecoder").eval(), make_batch().single_views[0]
    before = {key: value.clone() for key, value in method.state_dict().items()}
    with torch.no_grad():
        together = method.embed(images)
        alone = torch.cat([method.embed(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4)
    assert not together.requires_grad
    assert all(parameter.grad is None for parameter in method.parameters())
    assert all(torch.equal(value, before[key]) for key, value in method.state_dict().items())


def test_autodecoder__more_iterations_draw_better() -> None:
    images = make_batch().single_views[0]
    errors = []
    for steps in (1, 3, 9, 27):
        method = make("autodecoder", embed_steps=steps, prior_weight=0.0).eval()
        with torch.no_grad():
            errors.append((method.decode(method.embed(images)) - images).square().mean().item())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0]


def test_autodecoder__a_step_moves_the_codes_of_its_images_alone_downhill() -> None:
    method, batch = make("autodecoder").eval(), make_batch()  # eval: batch norm would tie the images together
    before = method.codes.clone()
    method.training_loss(batch, PROGRESS).loss.backward()
    method.after_step(PROGRESS)
    moved = method.codes - before
    others = [index for index in range(12) if index not in batch.indices.tolist()]
    assert torch.equal(method.codes[others], before[others])
    assert method.visits[batch.indices].tolist() == [1] * 6
    assert method.visits[others].tolist() == [0] * 6
    rate = method.config.code_lr
    torch.testing.assert_close(moved[batch.indices].square().mean(dim=1).sqrt(), torch.full((6,), rate))

    def error(codes: Tensor) -> Tensor:
        drawn: Tensor = method.decode(codes[batch.indices])
        return (drawn - batch.single_views[0]).square().flatten(1).mean(dim=1)

    with torch.no_grad():
        assert (error(before + 0.01 * moved) < error(before)).all()


def test_autodecoder__micro_batches_move_the_codes_like_the_whole_batch() -> None:
    states = []
    for micro_batch_size in (None, 4):
        method = make("autodecoder").eval()
        for step in range(3):
            progress = Progress(step=step, total_steps=3)
            backward(
                method,
                make_batch(step).part,
                progress,
                batch_size=6,
                micro_batch_size=micro_batch_size,
                autocast=contextlib.nullcontext,
            )
            method.after_step(progress)
        states.append(method.codes)
    torch.testing.assert_close(states[0], states[1])


def test_autodecoder__samples_follow_the_codes() -> None:
    method = make("autodecoder")
    torch.manual_seed(2)
    factors = torch.randn(4, 4)
    method.codes = torch.randn(5000, 4) @ factors + 3
    drawn = method.sample(20000, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.mean(dim=0), method.codes.mean(dim=0), atol=0.1, rtol=0)
    torch.testing.assert_close(drawn.T.cov(), method.codes.T.cov(), atol=0.4, rtol=0.1)
