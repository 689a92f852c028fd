"""The queue beside a list of Python that does the same."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from contrastive_cli.models.queue import VectorQueue


def rows(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sizes", [(2, 2, 2), (3, 4, 3, 4), (5, 5), (7, 1), (1, 12, 2)])
def test_push__keeps_the_last_ones(sizes: tuple[int, ...]) -> None:
    queue, last = VectorQueue(5, dimension=3), []
    for number, size in enumerate(sizes):
        pushed = rows(size, seed=number)
        queue.push(pushed)
        last += F.normalize(pushed, dim=1).tolist()
        assert queue.filled == min(5, len(last))
        kept = queue.rows[: int(queue.filled)].tolist()
        assert sorted(kept) == sorted(last[-5:])
    torch.testing.assert_close(queue.rows.norm(dim=1), torch.ones(5))


def test_nearest__is_the_largest_cosine_of_what_was_pushed() -> None:
    queue, asked = VectorQueue(50, dimension=3), F.normalize(rows(20, seed=9), dim=1)
    assert torch.equal(queue.nearest(asked), asked)  # nothing was pushed: not one of the random rows
    pushed = F.normalize(rows(8, seed=1), dim=1)
    queue.push(pushed)
    torch.testing.assert_close(queue.nearest(asked), pushed[(asked @ pushed.T).argmax(dim=1)])


def test_queue__goes_into_the_state_and_takes_no_gradient() -> None:
    queue, other = VectorQueue(6, dimension=3), VectorQueue(6, dimension=3)
    queue.push(rows(4, seed=0).requires_grad_())
    other.load_state_dict(queue.state_dict())
    for each in (queue, other):
        each.push(rows(4, seed=1))
    assert torch.equal(queue.rows, other.rows)
    assert int(other.position) == 2
    assert not list(queue.parameters())
    assert not queue.rows.requires_grad
