"""What every file in `methods/` must do; a new one is tested as soon as it is there."""

from __future__ import annotations

import copy
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from contrastive_cli import methods
from contrastive_cli.core.config import build
from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.types import AfterStep, Batch, ImageFacts, Method, Progress
from contrastive_cli.engine.optim import OptimConfig, build_optimizer
from contrastive_cli.methods import list_methods, load_method
from contrastive_cli.models.encoders import EncoderConfig, build_encoder
from contrastive_cli.views.recipe import RECIPES

NUM_IMAGES = 64
FACTS = ImageFacts(count=NUM_IMAGES, channels=1, size=8, num_classes=10)
START = Progress(step=0, total_steps=30)


@pytest.fixture(scope="module")
def digits() -> Batch:
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.from_numpy(data.images[:NUM_IMAGES].astype(np.float32) / 16)[:, None]  # [B, 1, 8, 8]
    return Batch(
        views=(images[None],),
        indices=torch.arange(NUM_IMAGES),
        labels=torch.from_numpy(data.target[:NUM_IMAGES]).long(),
    )


def with_views(digits: Batch, num_views: int) -> Batch:
    """Views by shifting a pixel and adding noise, the same at every call."""
    noise = torch.Generator().manual_seed(0)
    views = [torch.roll(digits.single_views[0], shift % 2, dims=-1 - shift % 2) for shift in range(num_views)]
    stacked = torch.stack([view + 0.1 * torch.randn(view.shape, generator=noise) for view in views])
    return Batch(views=(stacked,), indices=digits.indices, labels=digits.labels)


def make(name: str, seed: int = 0) -> Any:
    spec = load_method(name)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = None
        if spec.has_encoder:
            encoder = build_encoder(EncoderConfig(name="resnet9", width=8, embedding_dim=None), channels=1, size=8)
        return spec.build(build(spec.config, {}), encoder=encoder, images=FACTS)


@pytest.mark.parametrize("name", list_methods())
def test_method__spec(name: str) -> None:
    spec = load_method(name)
    assert build(spec.config, {}).model_dump()["name"] == name
    with pytest.raises(UsageError):
        build(spec.config, {"name": "another"})
    assert spec.summary
    assert len(spec.summary) <= 80
    method = make(name)
    assert hasattr(method, "encoder") == spec.has_encoder
    assert method.num_views >= 1
    assert spec.recipe is None or spec.recipe in RECIPES
    assert isinstance(method, nn.Module)


@pytest.mark.parametrize("name", list_methods())
def test_method__loss_is_a_finite_scalar_that_reaches_every_parameter(name: str, digits: Batch) -> None:
    method = make(name).train()
    output = method.training_loss(with_views(digits, method.num_views), START)
    assert output.loss.shape == ()
    assert torch.isfinite(output.loss)
    for value in output.metrics.values():
        assert value.shape == ()
        assert not value.requires_grad
    output.loss.backward()
    for where, parameter in method.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, where
            assert torch.isfinite(parameter.grad).all(), where
            assert parameter.grad.abs().max() > 0, where


@pytest.mark.parametrize("name", list_methods())
def test_method__embed_is_deterministic(name: str, digits: Batch) -> None:
    method = make(name).eval()
    before = copy.deepcopy(method.state_dict())
    with torch.no_grad():
        first, second = method.embed(digits.single_views[0]), method.embed(digits.single_views[0])
        alone = method.embed(digits.single_views[0][:1])
    assert first.shape == (NUM_IMAGES, method.embedding_dim)
    assert torch.equal(first, second)
    torch.testing.assert_close(alone, first[:1], rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, before[key]) for key, value in method.state_dict().items())


@pytest.mark.parametrize("name", list_methods())
def test_method__state_dict_round_trip(name: str, digits: Batch, tmp_path: Path) -> None:
    trained, fresh = make(name, seed=1).train(), make(name, seed=2).train()
    trained.training_loss(with_views(digits, trained.num_views), START)  # moves the running statistics
    if isinstance(trained, AfterStep):
        trained.after_step(START)
    torch.save(trained.state_dict(), tmp_path / "state.pt")
    fresh.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    with torch.no_grad():
        expected, found = (module.eval().embed(digits.single_views[0]) for module in (trained, fresh))
    assert torch.equal(expected, found)


LARGE = ("dino", "moco", "swav", "nnclr")  # several networks or many views: ten seconds and more


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LARGE else ()) for name in list_methods()]
)
def test_method__thirty_steps_lower_the_loss(name: str, digits: Batch) -> None:
    method = make(name).train()
    batch = with_views(digits, method.num_views)
    optimizer = torch.optim.AdamW([weight for weight in method.parameters() if weight.requires_grad], lr=1e-3)
    losses = []
    for step in range(30):
        progress = Progress(step=step, total_steps=30)
        optimizer.zero_grad()
        output = method.training_loss(batch, progress)
        output.loss.backward()
        optimizer.step()
        if isinstance(method, AfterStep):
            method.after_step(progress)
        losses.append(output.loss.item())
    assert np.isfinite(losses).all()
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


def take_steps(method: Method, optimizer: torch.optim.Optimizer, batch: Batch, steps: range) -> None:
    for step in steps:
        progress = Progress(step=step, total_steps=4)
        optimizer.zero_grad()
        method.training_loss(batch, progress).loss.backward()
        optimizer.step()
        if isinstance(method, AfterStep):
            method.after_step(progress)


@pytest.mark.parametrize("name", list_methods())
def test_method__resumed_equals_uninterrupted_bit_for_bit(name: str, digits: Batch) -> None:
    def fresh(seed: int) -> tuple[Any, torch.optim.Optimizer]:
        method = make(name, seed=seed).train()
        return method, build_optimizer(method, OptimConfig(), lr=1e-3)

    whole, optimizer = fresh(seed=1)
    batch = with_views(digits, whole.num_views)
    torch.manual_seed(7)
    take_steps(whole, optimizer, batch, range(4))

    first, optimizer = fresh(seed=1)
    torch.manual_seed(7)
    take_steps(first, optimizer, batch, range(2))
    file = io.BytesIO()
    state = {"method": first.state_dict(), "optimizer": optimizer.state_dict(), "rng": torch.get_rng_state()}
    torch.save(state, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    second, optimizer = fresh(seed=2)
    second.load_state_dict(saved["method"])
    optimizer.load_state_dict(saved["optimizer"])
    torch.set_rng_state(saved["rng"])
    take_steps(second, optimizer, batch, range(2, 4))
    for key, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key


def test_load_method__unknown_name() -> None:
    with pytest.raises(UsageError, match=r"no method named 'simclrr'; did you mean 'simclr'\?"):
        load_method("simclrr")
    for name in ("__init__", "../core/config", "", "simclr.py"):
        with pytest.raises(UsageError, match="no method named"):
            load_method(name)


def test_list_methods__imports_none_and_finds_a_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    before = list_methods()
    (tmp_path / "brand_new.py").write_text(
        "from contrastive_cli.core.types import MethodSpec\n"
        "from contrastive_cli.methods.simclr import SimCLR, SimCLRConfig\n"
        "METHOD = MethodSpec(summary='new', config=SimCLRConfig, build=SimCLR)\n"
    )
    (tmp_path / "_private.py").write_text("raise ImportError\n")
    (tmp_path / "broken.py").write_text("raise ImportError\n")
    assert set(list_methods()) - set(before) == {"brand-new", "broken"}
    try:
        spec = load_method("brand-new")
        assert spec.summary == "new"
        method = spec.build(spec.config(), encoder=make("simclr").encoder, images=FACTS)
        assert method.num_views == 2
    finally:
        sys.modules.pop("contrastive_cli.methods.brand_new", None)


@pytest.mark.parametrize("name", list_methods())
def test_method__loss_and_metrics_are_not_rounded_to_half_precision(name: str, digits: Batch) -> None:
    method = make(name).train()
    with torch.autocast("cpu", torch.bfloat16):
        output = method.training_loss(with_views(digits, method.num_views), START)
    assert output.loss.dtype == torch.float32
    assert {value.dtype for value in output.metrics.values()} <= {torch.float32, torch.int64}
