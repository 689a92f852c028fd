"""How long a contrastive step takes in P processes: arithmetic on the seconds and bytes of its parts.

`benchmarks.scaling` measures these parts on a CPU and asks the same functions; here is nothing that measures.

A step is what `engine.accumulate` does: every process looks at its micro-batches without a graph, all gather the
projections, every process computes the loss of all rows, learns from its micro-batches, and all add their gradients.
Nothing of this overlaps today, so the parts add up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from contrastive_cli.engine.distributed import BUCKET_BYTES


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What the parts of a step cost one process.

    Attributes:
        look: Seconds of an image in the pass without a graph, making its views included.
        learn: Seconds of an image in the pass that carries the gradient into the weights.
        pair: Seconds of the loss and its gradient for each of its rows x rows similarities.
        optimizer: Seconds of a step of the optimizer.
        views: Rows that an image has in the loss.
        row_bytes: Of a projection.
        gradient_bytes: Of the gradients of all weights.
        statistics_bytes: Of what batch norm tells of a micro-batch.
    """

    look: float
    learn: float
    pair: float
    optimizer: float
    views: int
    row_bytes: int
    gradient_bytes: int
    statistics_bytes: int

    def gathered(self, batch: int) -> int:
        """Bytes of the projections of a batch."""
        return batch * self.views * self.row_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """What messages cost.

    Attributes:
        hop: Seconds by which each further process delays a gathering, which goes around in a ring.
        gather_rate: Bytes that a process receives in a second while all gather.
        doubling: Seconds by which each doubling of the processes delays a sum, which goes along a tree.
        sum_rate: Bytes that a process receives in a second while all add.
        word: Seconds of a message between two processors by gloo, which agreements are made of.
    """

    hop: float
    gather_rate: float
    doubling: float
    sum_rate: float
    word: float

    def gather(self, total: float, processes: int, *, messages: int = 1) -> float:
        """Seconds until every process has the `total` bytes that all have together."""
        others = processes - 1
        return messages * others * self.hop + total * others / processes / self.gather_rate

    def add(self, size: float, processes: int) -> float:
        """Seconds until every process has the sum of `size` bytes, in buckets."""
        delays = math.ceil(size / BUCKET_BYTES) * math.log2(processes) * self.doubling
        return delays + 2 * size * (processes - 1) / processes / self.sum_rate

    def agree(self, processes: int) -> float:
        """Seconds of what the training's loop asks after a step.

        Has anybody had a signal (a sum by gloo goes around the ring twice), and is it time to save (a length and a
        text from the first process, along a tree)?
        """
        return (2 * (processes - 1) + 2 * math.log2(processes)) * self.word


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """Seconds of the parts of a step."""

    look: float
    learn: float
    gather: float
    loss: float
    statistics: float
    gradients: float
    agreements: float
    optimizer: float

    @property
    def total(self) -> float:
        """Of the step."""
        return sum(self.part(field.name) for field in fields(self))

    @property
    def limit(self) -> str:
        """What takes longest of that which does not fall with the number of processes."""
        return max(("gather", "loss", "statistics", "gradients", "agreements", "optimizer"), key=self.part)

    def part(self, name: str) -> float:
        """Seconds of a part, by its name."""
        return float(getattr(self, name))


def predict(
    work: Work, link: Link, *, processes: int, batch: int, pieces: int, ring: bool = False, overlap: bool = False
) -> Step:
    """The step of `batch` images in so many micro-batches, the same number of them for each process but for the rest.

    Args:
        work: What the parts cost.
        link: What messages cost.
        processes: P.
        batch: Images of the whole batch.
        pieces: Micro-batches, at least P; more than one, so that there are two passes.
        ring: As it could be: each process keeps the rows of its own images, and blocks of the others' rows go around
            with their gradients, one block being computed while the next one travels. No process has all rows then.
        overlap: As it could be: gradients travel while the last micro-batch is still being learned from (two thirds of
            that pass go backward), and agreements are made once a second, whatever a step takes.
    """
    share = -(-pieces // processes) / pieces * batch
    loss = work.pair * (work.views * batch) ** 2
    gather = link.gather(work.gathered(batch), processes, messages=2)
    if ring:
        travel = link.gather(2 * work.gathered(batch), processes)
        loss, gather = max(loss / processes, travel), link.gather(0, processes)
    gradients = link.add(work.gradient_bytes, processes) + link.gather(0, processes)
    agreements = link.agree(processes)
    if overlap:
        gradients = max(0.0, gradients - 2 / 3 * work.learn * batch / pieces)
        agreements = 0.0
    return Step(
        look=work.look * share,
        learn=work.learn * share,
        gather=gather,
        loss=loss,
        statistics=link.gather(pieces * work.statistics_bytes, processes),
        gradients=gradients,
        agreements=agreements,
        optimizer=work.optimizer,
    )


def efficiency(
    work: Work, link: Link, *, processes: int, batch: int, pieces: int, ring: bool = False, overlap: bool = False
) -> float:
    """How near P processes come to being P times as fast as one with the same micro-batches; 1 is perfect."""
    one = predict(work, link, processes=1, batch=batch, pieces=pieces).total
    many = predict(work, link, processes=processes, batch=batch, pieces=pieces, ring=ring, overlap=overlap).total
    return one / (processes * many)
