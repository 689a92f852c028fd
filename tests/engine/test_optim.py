from __future__ import annotations

import copy
import io
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from contrastive_cli.core.config import build
from contrastive_cli.core.errors import UsageError
from contrastive_cli.engine.optim import Lars, Muon, OptimConfig, build_optimizer, orthogonalized

NAMES = ["adamw", "adam", "sgd", "lars", "muon"]


def small_network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, *, num_steps: int, seed: int = 1) -> list[float]:
    generator = torch.Generator().manual_seed(seed)
    images, targets = torch.randn(8, 1, 4, 4, generator=generator), torch.randn(8, 3, generator=generator)
    losses = []
    for _ in range(num_steps):
        optimizer.zero_grad()
        loss = (model(images) - targets).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("name", NAMES)
def test_build_optimizer__decays_matrices_only(name: str) -> None:
    model = small_network()
    optimizer = build_optimizer(model, build(OptimConfig, {"name": name, "weight_decay": 0.5}), lr=0.25)
    matrices, vectors = optimizer.param_groups
    assert [parameter.ndim for parameter in matrices["params"]] == [4, 2]
    assert all(parameter.ndim == 1 for parameter in vectors["params"])
    assert len(vectors["params"]) == 4
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.5, 0)
    assert {group["lr"] for group in optimizer.param_groups} == {0.25}


@pytest.mark.parametrize("name", NAMES)
def test_build_optimizer__lowers_the_loss(name: str) -> None:
    model = small_network()
    lr = {"adamw": 0.01, "adam": 0.01, "sgd": 0.05, "lars": 0.3, "muon": 0.05}[name]
    config = build(OptimConfig, {"name": name, "trust_coefficient": 0.02})
    losses = train(model, build_optimizer(model, config, lr=lr), num_steps=30)
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("name", NAMES)
def test_build_optimizer__state_survives_a_safe_load(name: str) -> None:
    config = build(OptimConfig, {"name": name})
    model = small_network()
    optimizer = build_optimizer(model, config, lr=0.01)
    train(model, optimizer, num_steps=3)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved: dict[str, Any] = torch.load(file, weights_only=True)
    resumed = small_network(seed=5)
    resumed.load_state_dict(saved["model"])
    resumed_optimizer = build_optimizer(resumed, config, lr=0.01)
    resumed_optimizer.load_state_dict(saved["optimizer"])
    assert train(resumed, resumed_optimizer, num_steps=3) == train(model, optimizer, num_steps=3)


def test_build_optimizer__leaves_frozen_parameters_out() -> None:
    model = small_network()
    model[0].requires_grad_(False)
    optimizer = build_optimizer(model, OptimConfig(), lr=0.1)
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 3]
    with pytest.raises(ValueError, match="no trainable parameter"):
        build_optimizer(model.requires_grad_(False), OptimConfig(), lr=0.1)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"name": "adam", "nesterov": True}, "nesterov"),
        ({"name": "sgd", "nesterov": True, "momentum": 0}, "nesterov"),
        ({"betas": [0.9, 1.0]}, "betas"),
        ({"lr": 0}, "lr"),
        ({"name": "rmsprop"}, "name"),
        ({"warmup_fraction": 2}, "warmup_fraction"),
        ({"clip_gradient": 0}, "clip_gradient"),
    ],
)
def test_optim_config__refuses(tree: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(OptimConfig, tree)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [1e-4, 0.5])
def test_lars__matches_timm_step_by_step(momentum: float, weight_decay: float) -> None:
    timm_optim = pytest.importorskip("timm.optim")
    ours, theirs = small_network(), small_network()
    config = OptimConfig(name="lars", momentum=momentum, weight_decay=weight_decay, trust_coefficient=0.02)
    optimizer = build_optimizer(ours, config, lr=0.7)
    matrices = [parameter for parameter in theirs.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in theirs.parameters() if parameter.ndim == 1]
    # timm does not adapt groups without weight decay.
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    reference = timm_optim.Lars(groups, lr=0.7, momentum=momentum, trust_coeff=0.02)
    for step in range(5):
        torch.testing.assert_close(
            train(ours, optimizer, num_steps=1, seed=step), train(theirs, reference, num_steps=1, seed=step)
        )
        for parameter, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(parameter, expected, rtol=1e-5, atol=1e-6)


def test_lars__first_step_is_a_fixed_part_of_the_weight() -> None:
    weight = nn.Parameter(torch.tensor([[3.0, 4.0]]))
    for scale in (1e-3, 1e3):
        moved = nn.Parameter(weight.detach().clone())
        optimizer = Lars([moved], lr=2.0, trust_coefficient=0.01)
        moved.grad = scale * torch.tensor([[0.0, 1.0]])
        optimizer.step()
        # lr * trust_coefficient * |w| = 2 * 0.01 * 5, whatever the size of the gradient.
        torch.testing.assert_close(weight - moved, torch.tensor([[0.0, 0.1]]))


def test_lars__zero_weight_and_zero_gradient_stay_finite() -> None:
    weights = [nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.zeros(2, 2))]
    gradients = [torch.ones(2, 2), torch.zeros(2, 2), torch.zeros(2, 2)]
    optimizer = Lars(weights, lr=0.1, momentum=0.0)
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient
    optimizer.step()
    torch.testing.assert_close(weights[0].detach(), torch.full((2, 2), -0.1))
    torch.testing.assert_close(weights[1].detach(), torch.ones(2, 2))
    torch.testing.assert_close(weights[2].detach(), torch.zeros(2, 2))


def test_lars__without_adapt_is_sgd() -> None:
    ours, theirs = small_network(), small_network()
    lars = Lars(ours.parameters(), lr=0.05, momentum=0.8, weight_decay=0.01, adapt=False)
    sgd = torch.optim.SGD(theirs.parameters(), lr=0.05, momentum=0.8, weight_decay=0.01)
    assert train(ours, lars, num_steps=6) == pytest.approx(train(theirs, sgd, num_steps=6), rel=1e-5)


def test_lars__leaves_gradients_and_unused_parameters_alone() -> None:
    used, unused = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    used.grad = torch.full((2, 2), 0.5)
    before = copy.deepcopy(used.grad)
    optimizer = Lars([used, unused], lr=1.0, weight_decay=0.1)
    assert optimizer.step(lambda: 7.0) == 7.0
    assert torch.equal(used.grad, before)
    assert torch.equal(unused, torch.ones(2, 2))
    assert not torch.equal(used, torch.ones(2, 2))


@pytest.mark.parametrize("shape", [(16, 40), (40, 16), (24, 24)])
def test_muon__matrices_equal_torchs(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(shape, generator=generator)
    gradients = torch.randn(5, *shape, generator=generator)
    moved = []
    for make in (
        lambda weights: Muon(weights, lr=0.02, momentum=0.9, weight_decay=0.3, products=torch.bfloat16),
        lambda weights: torch.optim.Muon(
            weights, lr=0.02, momentum=0.9, weight_decay=0.3, adjust_lr_fn="match_rms_adamw"
        ),
    ):
        weight = nn.Parameter(start.clone())
        optimizer = make([weight])
        for gradient in gradients:
            weight.grad = gradient.clone()
            optimizer.step()
        moved.append(weight.detach() - start)
    torch.testing.assert_close(moved[0], moved[1], atol=1e-3, rtol=0)
    assert moved[0].abs().mean() > 0.01


def moved_by(optimizer: torch.optim.Optimizer, weight: nn.Parameter, gradients: torch.Tensor) -> torch.Tensor:
    before = weight.detach().clone()
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
    return weight.detach() - before


@pytest.mark.parametrize("shape", [(16, 40), (40, 16), (24, 24)])
def test_muon__a_matrix_moves_exactly_as_torchs_moves_it(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    start, gradients = torch.randn(shape, generator=generator), torch.randn(3, *shape, generator=generator)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    settings: dict[str, Any] = {"lr": 0.02, "momentum": 0.95, "weight_decay": 0.1}
    products = torch.bfloat16  # torch's own has no other
    found = moved_by(Muon([ours], **settings, products=products), ours, gradients)
    expected = moved_by(torch.optim.Muon([theirs], **settings, adjust_lr_fn="match_rms_adamw"), theirs, gradients)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)  # bit for bit with torch 2.14
    assert expected.abs().mean() > 0.005


def test_muon__a_kernel_moves_as_timms_moves_it() -> None:
    timm = pytest.importorskip("timm.optim")
    if not hasattr(timm, "Muon"):
        pytest.skip("timm has it from 1.0.21 on")
    generator = torch.Generator().manual_seed(0)
    shape = (8, 4, 3, 3)
    start, gradients = torch.randn(shape, generator=generator), torch.randn(3, *shape, generator=generator)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    settings: dict[str, Any] = {"lr": 0.02, "momentum": 0.95, "weight_decay": 0.0}
    other = timm.Muon(
        [theirs], **settings, conv_mode="flatten", normalize_spatial=False, ns_coefficients="original",
        nesterov=True, adjust_lr_fn="match_rms_adamw",
    )  # fmt: skip
    found = moved_by(Muon([ours], **settings, products=torch.bfloat16), ours, gradients)
    expected = moved_by(other, theirs, gradients)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert expected.abs().mean() > 0.005


def test_muon__vectors_equal_adamw() -> None:
    config, networks = build(OptimConfig, {"name": "muon", "betas": [0.8, 0.95]}), [small_network(), small_network()]
    optimizers = [
        build_optimizer(networks[0], config, lr=0.01),
        torch.optim.AdamW(networks[1].parameters(), lr=0.01, betas=(0.8, 0.95), weight_decay=0.0),
    ]
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        for pair in zip(*(network.parameters() for network in networks), strict=True):
            pair[0].grad = pair[1].grad = torch.randn(pair[0].shape, generator=generator)
        for optimizer in optimizers:
            optimizer.step()
    for ours, theirs in zip(*(network.parameters() for network in networks), strict=True):
        if ours.ndim == 1:
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_muon__a_kernel_is_the_matrix_of_its_rows_in_any_memory_format() -> None:
    generator = torch.Generator().manual_seed(0)
    start, gradient = (torch.randn(8, 4, 3, 3, generator=generator) for _ in range(2))
    moved = []
    for reshape in (
        lambda tensor: tensor.clone(),
        lambda tensor: tensor.clone(memory_format=torch.channels_last),
        lambda tensor: tensor.flatten(1).clone(),
    ):
        weight = nn.Parameter(reshape(start))  # type: ignore[no-untyped-call]
        weight.grad = reshape(gradient)  # type: ignore[no-untyped-call]
        Muon([weight], lr=0.1).step()
        moved.append(weight.detach().reshape(8, 36) if weight.ndim == 2 else weight.detach().flatten(1))
    torch.testing.assert_close(moved[1], moved[0])
    torch.testing.assert_close(moved[2], moved[0])


@pytest.mark.parametrize("products", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(32, 288), (1024, 128), (16, 27)])
def test_orthogonalized__singular_values_are_near_one(shape: tuple[int, int], products: torch.dtype) -> None:
    matrix = 1e-4 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    made = orthogonalized(matrix, products=products)
    assert made.dtype == torch.float32
    values = torch.linalg.svdvals(made)
    assert 0.6 < values.min() < values.max() < 1.3
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    assert ((left.T @ made @ right.T).diagonal() > 0.6).all()  # along the same directions
    assert orthogonalized(torch.zeros(shape), products=products).abs().max() == 0


@pytest.mark.parametrize("name", ["muon", "lars"])
def test_build_optimizer__imports_no_compiler(name: str) -> None:
    code = (
        "import sys, torch; from contrastive_cli.engine.optim import OptimConfig, build_optimizer\n"
        "model = torch.nn.Linear(3, 3)\n"
        f"optimizer = build_optimizer(model, OptimConfig(name={name!r}), lr=1e-3)\n"
        "model(torch.ones(2, 3)).sum().backward(); optimizer.step(); optimizer.zero_grad(set_to_none=True)\n"
        "optimizer.load_state_dict(optimizer.state_dict()); print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
