"""L-BFGS on problems where the first step leads too far, and each problem as if it were alone."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor

from contrastive_cli.embeddings.probes.lbfgs import HISTORY, Evaluation, _History, minimize


class Bowls:
    """sqrt(1 + x^2) in every coordinate, whose Newton step from x leads to -x^3; asked points are kept."""

    def __init__(self) -> None:
        self.asked: list[tuple[Tensor, Tensor]] = []

    def __call__(self, points: Tensor, problems: Tensor) -> Evaluation:
        self.asked.append((points.clone(), problems.clone()))
        root = (1 + points.square()).sqrt()
        return Evaluation(values=root.sum(1), gradients=points / root, curvatures=root**-3)


def test_minimize__a_first_step_that_leads_too_far_is_shortened() -> None:
    start = torch.tensor([[3.0], [-2.0], [0.5], [8.0]], dtype=torch.float64)
    found = minimize(Bowls(), start, max_iterations=50, tolerance=1e-8)
    torch.testing.assert_close(found.points, torch.zeros_like(start), atol=1e-6, rtol=0)
    assert int(found.iterations.max()) < 30


@pytest.mark.parametrize("iterations", range(6))
def test_minimize__no_step_raises_a_value(iterations: int) -> None:
    start = torch.tensor([[3.0, -2.0], [8.0, 0.1]], dtype=torch.float64)
    before, after = (
        minimize(Bowls(), start, max_iterations=count, tolerance=1e-8) for count in (iterations, iterations + 1)
    )
    assert (after.values <= before.values).all()
    assert (before.iterations == iterations).all()
    for found in (before, after):
        root = (1 + found.points.square()).sqrt()
        torch.testing.assert_close(found.values, root.sum(1))
        torch.testing.assert_close(found.gradient_norms, (found.points / root).norm(dim=1))


def test_minimize__each_problem_as_if_it_were_alone() -> None:
    start = torch.tensor([[3.0, 1.0], [0.2, -0.1], [8.0, -30.0]], dtype=torch.float64)
    together = minimize(Bowls(), start, max_iterations=50, tolerance=1e-8)
    for row in range(3):
        alone = minimize(Bowls(), start[row : row + 1], max_iterations=50, tolerance=1e-8)
        assert torch.equal(alone.points[0], together.points[row])
        assert alone.iterations[0] == together.iterations[row]
    assert len(together.iterations.unique()) == 3


def test_minimize__a_problem_that_is_done_is_not_asked_again() -> None:
    start = torch.tensor([[0.0], [3.0]], dtype=torch.float64)
    bowls = Bowls()
    found = minimize(bowls, start, max_iterations=50, tolerance=1e-8)
    assert found.iterations.tolist()[0] == 0
    assert all(problems.tolist() == [1] for _, problems in bowls.asked[1:])
    assert torch.equal(start, torch.tensor([[0.0], [3.0]], dtype=torch.float64))  # the caller's own


def test_minimize__quadratics_of_any_condition() -> None:
    generator = torch.Generator().manual_seed(0)
    diagonals = torch.stack([torch.logspace(0, power, 30, dtype=torch.float64) for power in (0, 2, 4)])
    targets = torch.randn(3, 30, generator=generator, dtype=torch.float64)

    def evaluate(points: Tensor, problems: Tensor) -> Evaluation:
        gradients = diagonals[problems] * (points - targets[problems])
        values = 0.5 * (gradients * (points - targets[problems])).sum(1)
        return Evaluation(values=values, gradients=gradients, curvatures=torch.ones_like(points))

    found = minimize(evaluate, torch.zeros_like(targets), max_iterations=1000, tolerance=1e-8)
    torch.testing.assert_close(found.points, targets, atol=1e-7, rtol=0)
    assert found.iterations[0] < found.iterations[1] < found.iterations[2]
    stopped = minimize(evaluate, torch.zeros_like(targets), max_iterations=2, tolerance=1e-8)
    assert stopped.iterations.tolist() == [1, 2, 2]


def textbook_direction(gradient: Tensor, curvature: Tensor, pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Nocedal and Wright 2006, algorithm 7.4, the oldest pair first; the initial Hessian is the diagonal, scaled."""
    q, alphas = gradient.clone(), []
    for s, y in reversed(pairs):
        alphas.append(s.dot(q) / s.dot(y))
        q = q - alphas[-1] * y
    s, y = pairs[-1]
    r = s.dot(y) / y.dot(y / curvature) * q / curvature
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        r = r + s * (alpha - y.dot(r) / s.dot(y))
    return -r


@pytest.mark.parametrize("counts", [(3, 3, 3), (25, 25, 25), (25, 4, 13)])
def test_history__gives_the_directions_of_the_textbook(counts: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    draw = functools.partial(torch.rand, generator=generator, dtype=torch.float64)
    history = _History(torch.zeros(3, 7, dtype=torch.float64))
    pairs: list[list[tuple[Tensor, Tensor]]] = [[], [], []]
    for number in range(max(counts)):
        moved = [problem for problem in range(3) if number < counts[problem]]
        steps = draw(len(moved), 7) - 0.5
        changes = steps * (draw(len(moved), 7) + 0.1)  # as of a convex function: the products are positive
        history.remember(torch.tensor(moved), steps, changes)
        for row, problem in enumerate(moved):
            pairs[problem].append((steps[row], changes[row]))
    gradients, curvatures = draw(3, 7), draw(3, 7) + 0.1
    expected = torch.stack([textbook_direction(gradients[p], curvatures[p], pairs[p][-HISTORY:]) for p in range(3)])
    torch.testing.assert_close(history.directions(torch.arange(3), gradients, curvatures), expected)
    some = torch.tensor([2, 0])
    torch.testing.assert_close(history.directions(some, gradients[some], curvatures[some]), expected[some])
