"""The random numbers that a method may draw in a step: a pure function of the seed, the step and the sample.

They are the same in any micro-batch, on any number of processes and after a resume, and move no generator.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from torch import Tensor

from contrastive_cli.views.draws import normal

_STREAM = 7  # no other use of the counters has it


@dataclass(frozen=True, kw_only=True, slots=True)
class StepNoise:
    """The draws for the samples `indices`, int64 [B], of one step."""

    seed: int
    step: int
    indices: Tensor

    def normal(self, slots: int) -> Tensor:
        """Standard normal numbers [B, slots] float32, on the device of the indices."""
        return normal(seed=self.seed, epoch=self.step, indices=self.indices, views=(0,), slots=slots, stream=_STREAM)

    def part(self, piece: slice) -> StepNoise:
        """Those of some of the samples."""
        return StepNoise(seed=self.seed, step=self.step, indices=self.indices[piece])

    @property
    def step_seed(self) -> int:
        """Of a generator for what is drawn for the batch as a whole."""
        digest = hashlib.sha256(f"noise {self.seed} {self.step}".encode()).digest()
        return int.from_bytes(digest[:7], "little")
