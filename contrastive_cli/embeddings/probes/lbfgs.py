"""L-BFGS (Nocedal 1980, doi:10.1090/S0025-5718-1980-0572855-7) for many independent convex problems at once.

Every problem has its own history, step length and end; only the evaluations are shared, because one matrix product for
all problems costs little more than for one. Left out: Wolfe's curvature condition, which convexity makes unnecessary.

Letters: L problems, A of them still active or asked for, P parameters of each, M remembered steps.
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
    history = _History(start)
    iterations = torch.zeros_like(problems)
    lengths = torch.ones_like(values)
    directions = -gradients / curvatures
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
            history.remember(moved, moves[enough], (at.gradients - gradient)[enough])
            points[moved] += moves[enough]
            values[moved], gradients[moved] = at.values[enough], at.gradients[enough]
            curvatures[moved] = at.curvatures[enough]
            iterations[moved] += 1
            directions[moved] = history.directions(moved, gradients[moved], curvatures[moved])
        unfinished = (gradients.norm(dim=1) > tolerance) & (iterations < max_iterations) & (lengths > SHORTEST_STEP)
        active = active[unfinished[active]]
    return Minimum(points=points, values=values, gradient_norms=gradients.norm(dim=1), iterations=iterations)


class _History:
    """The last M steps of every problem and what its gradient changed by, in a ring: nothing is moved to make room."""

    def __init__(self, start: Tensor) -> None:
        num_problems = len(start)
        self.steps = start.new_zeros(HISTORY, *start.shape)  # [M, L, P]
        self.changes = torch.zeros_like(self.steps)
        self.rho = start.new_zeros(HISTORY, num_problems)  # 1 / (step . change); 0 where there is none that is usable
        self.newest = torch.zeros(num_problems, dtype=torch.long, device=start.device)  # [L], place in the ring

    def remember(self, problems: Tensor, steps: Tensor, changes: Tensor) -> None:
        """Add the steps [A, P] of these problems [A], in the place of the oldest."""
        self.newest[problems] = (self.newest[problems] + 1) % HISTORY
        place = self.newest[problems], problems
        self.steps[place], self.changes[place] = steps, changes
        products = torch.linalg.vecdot(steps, changes)
        usable = products > 1e-12 * steps.norm(dim=1) * changes.norm(dim=1)
        self.rho[place] = torch.where(usable, 1 / torch.where(usable, products, 1.0), 0.0)

    def directions(self, problems: Tensor, gradients: Tensor, curvatures: Tensor) -> Tensor:
        """The two-loop recursion, [A, P]; the initial Hessian is the estimated diagonal, scaled to the newest step."""
        newest = self.newest[problems]
        together = len(problems) == self.steps.shape[1] and bool((newest == newest[0]).all())
        start = int(newest[0]) if together else newest
        ages = [(start - age) % HISTORY for age in range(HISTORY)]
        # Where all problems are at the same place, in their order, rows are read where they lie.
        places = [age if together else (age, problems) for age in ages]
        direction = -gradients
        alphas = []
        for place in places:
            alpha = self.rho[place] * torch.linalg.vecdot(self.steps[place], direction)
            direction.addcmul_(self.changes[place], alpha[:, None], value=-1)
            alphas.append(alpha)
        rho, change = self.rho[places[0]], self.changes[places[0]]
        squares = torch.linalg.vecdot(change, change / curvatures)
        scale = torch.where(rho > 0, 1 / (rho * squares).clamp_min(1e-300), 1.0)
        direction.mul_(scale[:, None]).div_(curvatures)
        for place, alpha in zip(reversed(places), reversed(alphas), strict=True):
            beta = self.rho[place] * torch.linalg.vecdot(self.changes[place], direction)
            direction.addcmul_(self.steps[place], (alpha - beta)[:, None])
        return direction
