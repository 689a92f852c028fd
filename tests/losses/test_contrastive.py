from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from contrastive_cli.losses import contrastive
from contrastive_cli.losses.contrastive import nt_xent, nt_xent_multiview, reference_lines


def random_projections(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(*shape, generator=generator, dtype=torch.float64)).to(dtype)


def unit_vectors(*degrees: float) -> Tensor:
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def algorithm_1(z: NDArray[np.float64], temperature: float, *, decoupled: bool = False) -> float:
    """Nested loops after Algorithm 1 of the SimCLR paper, every other view a positive. z: [V, N, D]."""
    num_views, num_images, _ = z.shape
    rows = [(view, image) for view in range(num_views) for image in range(num_images)]

    def similarity(first: tuple[int, int], second: tuple[int, int]) -> float:
        a, b = z[first], z[second]
        return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))

    total = 0.0
    for anchor in rows:
        denominator = 0.0
        for other in rows:
            if other == anchor or (decoupled and other[1] == anchor[1]):
                continue
            denominator += math.exp(similarity(anchor, other) / temperature)
        positives = [row for row in rows if row[1] == anchor[1] and row[0] != anchor[0]]
        terms = [math.log(denominator) - similarity(anchor, positive) / temperature for positive in positives]
        total += sum(terms) / len(terms)
    return total / len(rows)


def cross_entropy_of_full_matrix(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    logits = (z @ z.T / temperature).masked_fill(torch.eye(len(z), dtype=torch.bool), -math.inf)
    return F.cross_entropy(logits, torch.arange(len(z)).roll(len(z1)))


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("temperature", [0.05, 0.5, 1.0])
@pytest.mark.parametrize(("num_views", "num_images", "width"), [(2, 2, 1), (2, 5, 8), (3, 4, 3), (5, 2, 16)])
def test_nt_xent_multiview__matches_algorithm_1(
    num_views: int, num_images: int, width: int, temperature: float, decoupled: bool
) -> None:
    z = random_projections(num_views, num_images, width)
    loss = nt_xent_multiview(z, temperature=temperature, decoupled=decoupled)
    assert float(loss) == pytest.approx(algorithm_1(z.numpy(), temperature, decoupled=decoupled), abs=1e-9)
    if num_views == 2:
        torch.testing.assert_close(nt_xent(z[0], z[1], temperature=temperature, decoupled=decoupled), loss)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("temperature", "expected"), [(0.5, 0.316221), (0.1, 0.000854)])
def test_nt_xent__angles_of_the_reference_table(temperature: float, expected: float, dtype: torch.dtype) -> None:
    z1, z2 = unit_vectors(0, 90, 200).to(dtype), unit_vectors(20, 100, 230).to(dtype)
    # In float32 the similarities, up to 1 / temperature, carry the rounding.
    assert float(nt_xent(z1, z2, temperature=temperature)) == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("num_views", [2, 3])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_reference_lines__of_the_decoupled_loss(num_views: int, temperature: float) -> None:
    lines = reference_lines(64, temperature=temperature, num_views=num_views, decoupled=True)
    equal = random_projections(1, 1, 8).expand(num_views, 64, 8)
    orthogonal = torch.eye(64, dtype=torch.float64).expand(num_views, 64, 64)
    for z, line in zip((equal, orthogonal), lines, strict=True):
        loss = nt_xent_multiview(z, temperature=temperature, decoupled=True)
        assert float(loss) == pytest.approx(line, abs=1e-9)


@pytest.mark.parametrize("num_views", [2, 3])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_reference_lines__chance_is_the_loss_of_equal_rows(num_views: int, temperature: float) -> None:
    z = random_projections(1, 1, 8).expand(num_views, 256, 8)
    chance, _ = reference_lines(256, temperature=temperature, num_views=num_views)
    assert float(nt_xent_multiview(z, temperature=temperature)) == pytest.approx(chance, abs=1e-9)
    if num_views == 2:
        assert chance == pytest.approx(6.236370, abs=1e-6)


@pytest.mark.parametrize(("num_images", "temperature", "expected"), [(4, 0.5, 0.594438), (256, 0.5, 4.248795)])
def test_reference_lines__aligned_is_the_loss_of_orthogonal_images(
    num_images: int, temperature: float, expected: float
) -> None:
    z = torch.eye(num_images, dtype=torch.float64)
    assert float(nt_xent(z, z, temperature=temperature)) == pytest.approx(expected, abs=1e-6)
    assert reference_lines(num_images, temperature=temperature)[1] == pytest.approx(expected, abs=1e-6)
    three_views = nt_xent_multiview(z.expand(3, -1, -1), temperature=temperature)
    _, aligned = reference_lines(num_images, temperature=temperature, num_views=3)
    assert float(three_views) == pytest.approx(aligned, abs=1e-9)


@pytest.mark.parametrize("library", ["lightly", "pytorch_metric_learning"])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent__matches_library_with_gradients(library: str, temperature: float) -> None:
    losses = pytest.importorskip(f"{library}.loss" if library == "lightly" else f"{library}.losses")
    z1 = random_projections(16, 32, seed=1).requires_grad_()
    z2 = random_projections(16, 32, seed=2).requires_grad_()
    theirs = losses.NTXentLoss(temperature=temperature)
    if library == "lightly":
        expected = theirs(z1, z2)
    else:
        expected = theirs(torch.cat([z1, z2]), torch.arange(16).repeat(2))
    loss = nt_xent(z1, z2, temperature=temperature)
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-6)
    ours = torch.autograd.grad(loss, [z1, z2])
    torch.testing.assert_close(ours, torch.autograd.grad(expected, [z1, z2]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.01, 0.1])
def test_nt_xent__float32_close_to_float64(temperature: float) -> None:
    z = random_projections(2, 64, 32)
    z[1] = z[0] + 0.3 * z[1]
    exact = z.clone().requires_grad_()
    single = z.float().requires_grad_()
    expected = cross_entropy_of_full_matrix(exact[0], exact[1], temperature)
    loss = nt_xent(single[0], single[1], temperature=temperature)
    assert loss.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-6 / temperature)
    (gradient,) = torch.autograd.grad(loss, single)
    torch.testing.assert_close(gradient.double(), torch.autograd.grad(expected, exact)[0], rtol=0, atol=1e-6)


def test_nt_xent__temperature_001_with_opposite_rows_is_finite() -> None:
    # All negatives lie at similarity -1: exp(-1 / 0.01) underflows unless the largest is taken out after masking.
    z1 = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], requires_grad=True)
    loss = nt_xent(z1, z1, temperature=0.01, decoupled=True)
    assert float(loss.detach()) == pytest.approx(-200 + math.log(2), abs=1e-4)
    assert torch.autograd.grad(loss, z1)[0].isfinite().all()


def test_nt_xent__swap_permute_and_rescale_change_nothing() -> None:
    z1, z2 = random_projections(12, 6, seed=1), random_projections(12, 6, seed=2)
    loss = nt_xent(z1, z2, temperature=0.2)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(nt_xent(z2, z1, temperature=0.2), loss)
    torch.testing.assert_close(nt_xent(z1[order], z2[order], temperature=0.2), loss)
    torch.testing.assert_close(nt_xent(1e3 * z1, 1e-3 * z2, temperature=0.2), loss)
    assert not torch.isclose(nt_xent(z1[order], z2, temperature=0.2), loss)


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("chunk_rows", [1, 7, 8, 32])
def test_nt_xent__chunks_equal_one_chunk(monkeypatch: pytest.MonkeyPatch, chunk_rows: int, decoupled: bool) -> None:
    z = random_projections(2, 16, 5).requires_grad_()
    whole = nt_xent(z[0], z[1], temperature=0.1, decoupled=decoupled)
    monkeypatch.setattr(contrastive, "MIN_CHUNK_ROWS", 1)
    monkeypatch.setitem(contrastive.CHUNK_ENTRIES, "cpu", chunk_rows * 32)
    assert contrastive._chunk_rows(32, device_type="cpu") == chunk_rows
    parts = nt_xent(z[0], z[1], temperature=0.1, decoupled=decoupled)
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(torch.autograd.grad(parts, z), torch.autograd.grad(whole, z))


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("num_views", [2, 3])
def test_nt_xent_multiview__gradcheck(num_views: int, decoupled: bool) -> None:
    z = random_projections(num_views, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: nt_xent_multiview(z, temperature=0.3, decoupled=decoupled), [z])


def test_nt_xent__second_derivative_is_refused() -> None:
    z = random_projections(2, 4, 3).requires_grad_()
    loss = nt_xent(z[0], z[1], temperature=0.5)
    with pytest.raises(RuntimeError, match="once only"):
        torch.autograd.grad(loss, z, create_graph=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_nt_xent__autocast_computes_in_float32(dtype: torch.dtype) -> None:
    z = random_projections(2, 32, 16, dtype=dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = nt_xent(z[0], z[1], temperature=0.1)
    (gradient,) = torch.autograd.grad(loss, z)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, nt_xent(z[0].float(), z[1].float(), temperature=0.1))
    assert gradient.dtype == dtype
    assert gradient.abs().sum() > 0


def test_nt_xent__no_gradient_work_without_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    z = random_projections(2, 8, 4).requires_grad_()
    with_graph = nt_xent(z[0], z[1], temperature=0.1)
    calls = []
    monkeypatch.setattr(torch, "zeros_like", lambda *args: calls.append(args))
    with torch.no_grad():
        without = nt_xent(z[0], z[1], temperature=0.1)
    assert not calls
    assert not without.requires_grad
    assert torch.equal(without, with_graph)


def test_nt_xent__one_frozen_view_gets_no_gradient() -> None:
    z1, z2 = random_projections(6, 4, seed=1).requires_grad_(), random_projections(6, 4, seed=2)
    expected = cross_entropy_of_full_matrix(z1, z2, 0.2)
    loss = nt_xent(z1, z2, temperature=0.2)
    torch.testing.assert_close(torch.autograd.grad(loss, z1), torch.autograd.grad(expected, z1))
    assert z2.grad is None


def test_nt_xent__not_a_number_is_not_hidden() -> None:
    z = random_projections(2, 4, 3)
    z[0, 1, 2] = math.nan
    assert nt_xent(z[0], z[1], temperature=0.1).isnan()


def test_nt_xent__thirty_steps_lower_the_loss() -> None:
    z = random_projections(2, 16, 8).requires_grad_()
    optimizer = torch.optim.SGD([z], lr=5.0)
    first = float(nt_xent(z[0], z[1], temperature=0.2).detach())
    for _ in range(30):
        loss = nt_xent(z[0], z[1], temperature=0.2)
        (z.grad,) = torch.autograd.grad(loss, z)
        optimizer.step()
    assert float(loss.detach()) < 0.5 * first


@pytest.mark.parametrize("temperature", [0.0, -0.1, math.nan])
def test_nt_xent__refuses_temperature(temperature: float) -> None:
    z = random_projections(4, 3)
    with pytest.raises(ValueError, match="temperature must be greater than 0"):
        nt_xent(z, z, temperature=temperature)
    with pytest.raises(ValueError, match="temperature must be greater than 0"):
        reference_lines(4, temperature=temperature)


@pytest.mark.parametrize(("first", "second"), [((4, 3), (5, 3)), ((4, 3), (4, 2)), ((4,), (4,)), ((1, 3), (1, 3))])
def test_nt_xent__refuses_shapes(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must"):
        nt_xent(torch.ones(first), torch.ones(second), temperature=0.5)


def test_nt_xent_multiview__refuses_one_view() -> None:
    with pytest.raises(ValueError, match="at least 2 views"):
        nt_xent_multiview(torch.ones(1, 4, 3), temperature=0.5)


def test_reference_lines__refuses_one_image() -> None:
    with pytest.raises(ValueError, match="at least 2 images"):
        reference_lines(1, temperature=0.5)
