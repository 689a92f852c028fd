from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from contrastive_cli.losses import contrastive
from contrastive_cli.losses.contrastive import count_positives, nt_xent_multiview, sup_con

Positives = Literal["out", "in"]
BOTH: tuple[Positives, Positives] = ("out", "in")


def random_rows(count: int, width: int = 8, seed: int = 0) -> Tensor:
    return 3 * torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_labels(count: int, classes: int, seed: int = 0) -> Tensor:
    return torch.randint(-1, classes, (count,), generator=torch.Generator().manual_seed(seed))


def equations_2_and_3(z: Tensor, labels: Tensor, temperature: float, positives: Positives) -> Tensor:
    """The paper's sums in loops; anchors without positives left out."""
    z = F.normalize(z, dim=1)
    similar = (z @ z.T / temperature).exp()
    terms = []
    for i in range(len(z)):
        others = [a for a in range(len(z)) if a != i]
        same = [p for p in others if labels[p] == labels[i] and labels[i] >= 0]
        if not same:
            continue
        partition = similar[i, others].sum()
        ratios = similar[i, same] / partition
        terms.append(-ratios.log().mean() if positives == "out" else -ratios.mean().log())
    return torch.stack(terms).mean()


@pytest.mark.parametrize("positives", BOTH)
@pytest.mark.parametrize("temperature", [0.1, 0.5])
@pytest.mark.parametrize("classes", [2, 5, 12])
def test_sup_con__matches_the_equations_with_gradients(classes: int, temperature: float, positives: Positives) -> None:
    z, labels = random_rows(20).requires_grad_(), random_labels(20, classes)
    expected = equations_2_and_3(z, labels, temperature, positives)
    loss = sup_con(z, labels, temperature=temperature, positives=positives)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, z), torch.autograd.grad(expected, z))


@pytest.mark.parametrize(
    ("temperature", "positives", "expected"),
    [(0.5, "out", 1.885097), (0.5, "in", 1.009144), (0.1, "out", 7.845234), (0.1, "in", 0.733262)],
)
def test_sup_con__angles_of_the_reference_table(temperature: float, positives: Positives, expected: float) -> None:
    angles = torch.tensor([0, 90, 200, 20, 100, 230], dtype=torch.float64).deg2rad()
    z = torch.stack([angles.cos(), angles.sin()], dim=1)
    loss = sup_con(z, torch.tensor([0, 1, 0, 0, 1, 0]), temperature=temperature, positives=positives)
    assert float(loss) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_sup_con__equals_pytorch_metric_learning(temperature: float) -> None:
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    z, labels = random_rows(24).requires_grad_(), torch.arange(6).repeat(4)
    theirs = losses.SupConLoss(temperature=temperature)(z, labels)
    loss = sup_con(z, labels, temperature=temperature)
    torch.testing.assert_close(loss, theirs, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(torch.autograd.grad(loss, z), torch.autograd.grad(theirs, z), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("positives", BOTH)
def test_sup_con__every_image_a_class_is_nt_xent(positives: Positives) -> None:
    z = random_rows(12)
    loss = sup_con(z, torch.arange(6).repeat(2), temperature=0.2, positives=positives)
    torch.testing.assert_close(loss, nt_xent_multiview(z.view(2, 6, 8), temperature=0.2))


@pytest.mark.parametrize("positives", BOTH)
def test_sup_con__chance_order_and_names_of_classes(positives: Positives) -> None:
    labels = torch.tensor([0, 0, 1, 1, 1, 2])
    equal = sup_con(torch.ones(6, 3), labels, temperature=0.1, positives=positives)
    assert float(equal) == pytest.approx(math.log(5), rel=1e-6)
    z = random_rows(6)
    loss = sup_con(z, labels, temperature=0.3, positives=positives)
    order = torch.tensor([5, 2, 0, 3, 1, 4])
    torch.testing.assert_close(sup_con(z[order], labels[order], temperature=0.3, positives=positives), loss)
    torch.testing.assert_close(sup_con(9 * z, 700 - labels, temperature=0.3, positives=positives), loss)
    assert sup_con(z, labels, temperature=0.3, positives="in") <= sup_con(z, labels, temperature=0.3)


@pytest.mark.parametrize("positives", BOTH)
def test_sup_con__unlabeled_rows_repel_and_attract_nobody(positives: Positives) -> None:
    z = random_rows(6)
    labels = torch.tensor([0, 0, 1, 1, -1, -1])
    assert count_positives(labels).tolist() == [1, 1, 1, 1, 0, 0]
    loss = sup_con(z, labels, temperature=0.3, positives=positives)
    singletons = sup_con(z, torch.tensor([0, 0, 1, 1, 2, 3]), temperature=0.3, positives=positives)
    torch.testing.assert_close(loss, singletons)
    assert not torch.isclose(loss, sup_con(z[:4], labels[:4], temperature=0.3, positives=positives))


@pytest.mark.parametrize("positives", BOTH)
def test_sup_con__no_positive_at_all_is_a_zero_with_a_graph(positives: Positives) -> None:
    z = random_rows(4).requires_grad_()
    for labels in (torch.arange(4), torch.full((4,), -1)):
        loss = sup_con(z, labels, temperature=0.1, positives=positives)
        (gradient,) = torch.autograd.grad(loss, z)
        assert float(loss.detach()) == 0
        assert not gradient.any()


@pytest.mark.parametrize("positives", BOTH)
@pytest.mark.parametrize("chunk_rows", [1, 7, 24])
def test_sup_con__chunks_equal_one_chunk(
    monkeypatch: pytest.MonkeyPatch, chunk_rows: int, positives: Positives
) -> None:
    z, labels = random_rows(24).requires_grad_(), random_labels(24, 5)
    whole = sup_con(z, labels, temperature=0.1, positives=positives)
    monkeypatch.setattr(contrastive, "MIN_CHUNK_ROWS", 1)
    monkeypatch.setitem(contrastive.CHUNK_ENTRIES, "cpu", chunk_rows * 24)
    parts = sup_con(z, labels, temperature=0.1, positives=positives)
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(torch.autograd.grad(parts, z), torch.autograd.grad(whole, z))


@pytest.mark.parametrize("positives", BOTH)
def test_sup_con__gradcheck_and_no_second_derivative(positives: Positives) -> None:
    z, labels = random_rows(7, 4).requires_grad_(), torch.tensor([0, 0, 1, 1, 1, 2, -1])
    assert torch.autograd.gradcheck(lambda z: sup_con(z, labels, temperature=0.3, positives=positives), [z])
    loss = sup_con(z, labels, temperature=0.3, positives=positives)
    with pytest.raises(RuntimeError, match="once only"):
        torch.autograd.grad(loss, z, create_graph=True)


@pytest.mark.parametrize("positives", BOTH)
def test_sup_con__autocast_computes_in_float32(positives: Positives) -> None:
    z, labels = random_rows(16).bfloat16(), torch.arange(4).repeat(4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = sup_con(z, labels, temperature=0.1, positives=positives)
    assert torch.equal(loss, sup_con(z.float(), labels, temperature=0.1, positives=positives))
    hot = sup_con(z.float(), labels, temperature=0.01, positives=positives)
    expected = equations_2_and_3(z.double(), labels, 0.01, positives)
    assert float(hot) == pytest.approx(float(expected), abs=1e-4)


def test_sup_con__refuses() -> None:
    with pytest.raises(ValueError, match="temperature"):
        sup_con(random_rows(4), torch.zeros(4), temperature=0)
    for rows, labels in ((random_rows(1), torch.zeros(1)), (random_rows(4), torch.zeros(2))):
        with pytest.raises(ValueError, match="must be"):
            sup_con(rows, labels, temperature=0.5)
