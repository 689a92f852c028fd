"""L-BFGS (Nocedal 1980, doi:10.1090/S0025-5718-1980-0572855-7) for many independent convex problems at once.

Every problem has its own history, step length and end; only the evaluations are shared, because one matrix product for
all problems costs little more than for one. Left out: Wolfe's curvature condition, which convexity makes unnecessary.

Letters: L problems, A of them still active, P parameters of each, M remembered steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

HISTORY = 10
SUFFICIENT_DECREASE = 1e-4
ROUNDING = 1e-8  # relative error of a value computed from float32 data; smaller increases are no increase
SHORTEST_STEP = 1e-8


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Values [A], gradients [A, P] and positive estimates of the Hessian's diagonal [A, P], all float64."""

    values: Tensor
    gradients: Tensor
    curvatures: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Minimum:
    """Points [L, P], values [L] and gradient norms [L] in float64; steps taken [L] int64."""

    points: Tensor
    values: Tensor
    gradient_norms: Tensor
    iterations: Tensor


def minimize(
    objective: Callable[[Tensor, Tensor], Evaluation],
    start: Tensor,
    *,
    max_iterations: int,
    tolerance: float,
) -> Minimum:
    """Minimize L smooth convex problems from `start` [L, P] until each gradient's 2-norm is <= `tolerance`.

    Args:
        objective: (points [A, P], problems [A]) -> Evaluation of the problems with these numbers.
        start: [L, P] float64.
        max_iterations: Accepted steps of each problem; one that needs more stops where it is.
        tolerance: In units of the gradient. A problem also stops when rounding hides any further decrease.
    """
    points = start.clone()
    problems = torch.arange(len(start), device=start.device)
    at = objective(points, problems)
    values, gradients, curvatures = at.values.clone(), at.gradients.clone(), at.curvatures.clone()
    steps_s = start.new_zeros(HISTORY, *start.shape)  # [M, L, P], the newest last
    steps_y = torch.zeros_like(steps_s)
    iterations = torch.zeros_like(problems)
    lengths = torch.ones_like(values)
    directions = _directions(gradients, curvatures, steps_s, steps_y)
    active = problems[gradients.norm(dim=1) > tolerance] if max_iterations > 0 else problems[:0]
    while len(active):
        length, direction, gradient = lengths[active], directions[active], gradients[active]
        moves = length[:, None] * direction
        at = objective(points[active] + moves, active)
        slope = length * (gradient * direction).sum(1)
        rise = at.values - values[active]
        enough = rise <= SUFFICIENT_DECREASE * slope + ROUNDING * values[active].abs()  # false for nan
        shorter = (-slope / (2 * (rise - slope))).nan_to_num(0.0).clamp(0.1, 0.5)  # minimum of the parabola
        lengths[active] = torch.where(enough, torch.ones_like(length), length * shorter)
        moved = active[enough]
        if len(moved):
            steps_s[:, moved] = torch.cat([steps_s[1:, moved], moves[enough][None]])
            steps_y[:, moved] = torch.cat([steps_y[1:, moved], (at.gradients - gradient)[enough][None]])
            points[moved] += moves[enough]
            values[moved], gradients[moved] = at.values[enough], at.gradients[enough]
            curvatures[moved] = at.curvatures[enough]
            iterations[moved] += 1
            directions[moved] = _directions(gradients[moved], curvatures[moved], steps_s[:, moved], steps_y[:, moved])
        unfinished = (gradients.norm(dim=1) > tolerance) & (iterations < max_iterations) & (lengths > SHORTEST_STEP)
        active = active[unfinished[active]]
    return Minimum(points=points, values=values, gradient_norms=gradients.norm(dim=1), iterations=iterations)


def _directions(gradients: Tensor, curvatures: Tensor, steps_s: Tensor, steps_y: Tensor) -> Tensor:
    """The two-loop recursion, [A, P]; the initial Hessian is the estimated diagonal, scaled to the newest step."""
    products = (steps_s * steps_y).sum(2)  # [M, A]
    tiny = 1e-12 * steps_s.norm(dim=2) * steps_y.norm(dim=2)
    usable = products > tiny  # unused places of the history hold zeros
    rho = torch.where(usable, 1 / torch.where(usable, products, 1.0), 0.0)
    direction = -gradients
    alphas = []
    for s, y, r in zip(steps_s.flip(0), steps_y.flip(0), rho.flip(0), strict=True):
        alpha = r * (s * direction).sum(1)
        direction = direction - alpha[:, None] * y
        alphas.append(alpha)
    newest = steps_y[-1]
    scale = torch.where(usable[-1], products[-1] / (newest.square() / curvatures).sum(1).clamp_min(1e-300), 1.0)
    direction = scale[:, None] * direction / curvatures
    for s, y, r, alpha in zip(steps_s, steps_y, rho, reversed(alphas), strict=True):
        beta = r * (y * direction).sum(1)
        direction = direction + (alpha - beta)[:, None] * s
    return direction
