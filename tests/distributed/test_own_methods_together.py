"""Methods of one's own in several processes: what they keep from a micro-batch is exchanged, or noticed, or refused."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from clr_process import clr_environment
from distributed.launched_runs import PATIENCE, SHORT, torchrun
from distributed.process_pool import Pool
from distributed.short_trainings import SMALL, train_from_the_loop, train_some

FILE = """
import os
from typing import Literal

import torch

from contrastive_cli.core.types import MethodSpec
from contrastive_cli.methods.simclr import SimCLR, SimCLRConfig


class OwnConfig(SimCLRConfig):
    name: Literal["own-{name}"] = "own-{name}"


class Own(SimCLR):
    def __init__(self, config, *, encoder, images):
        super().__init__(config, encoder=encoder, images=images)
        self.register_buffer("seen", torch.zeros(()))
        self.left = []
{body}

METHOD = MethodSpec(summary="one's own", config=OwnConfig, build=Own)
"""
PROJECT = """
    def project(self, views):
        z = super().project(views)
        {does}
        return z
"""
LEAVES = (
    PROJECT.format(does="self.left += [z.detach().transpose(0, 1)] if torch.is_grad_enabled() else []")
    + """
    def give_left(self):
        return (self.left.pop(),)

    def take_left(self, left):
        self.left = [each for (each,) in left]

    def after_step(self, progress):
        for z in self.left:
            self.seen.mul_(0.9).add_(z.mean())
        self.left.clear()
"""
)
AFTER = """
    def after_step(self, progress):
        self.seen.add_(1)
"""
NEEDS_NOTHING = """
    def give_left(self):
        return ()

    def take_left(self, left):
        pass
"""
OWN = {
    "leaves": LEAVES,
    "counts": AFTER + NEEDS_NOTHING,
    "says-nothing": AFTER,
    "hides": PROJECT.format(does="self.seen += z.detach().mean()"),
    "draws": PROJECT.format(does="torch.rand(1)"),
    "fails": PROJECT.format(does="assert os.environ.get('RANK') != '1', 'not here'"),
}


@pytest.fixture
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file with the method of `OWN` that the parameter names."""
    file = tmp_path / "own.py"
    file.write_text(FILE.format(name=request.param, body=OWN[request.param]))
    return file


@pytest.mark.parametrize("own", ["leaves", "counts"], indirect=True)
def test_own_method__what_it_says_it_leaves_makes_the_bits_of_one_process(pool: Pool, own: Path) -> None:
    settings = {**SMALL, "method.name": str(own)}
    (one,) = pool.run(train_some, 1, settings=settings, steps=3)
    assert one["weights"]["seen"] != 0
    for found in pool.run(train_some, 2, settings={**settings, "train.reduction": "ordered"}, steps=3):
        assert found["lines"] == one["lines"]
        assert found["digest"] == one["digest"]


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ("says-nothing", "own-says-nothing has `after_step` and does not say what micro-batches leave for it"),
        ("hides", "after step 1 process 1 has other weights than process 0"),
        ("draws", "every micro-batch draws random numbers from torch's generator"),
    ],
    indirect=["own"],
)
def test_own_method__what_it_hides_ends_the_training_at_its_first_step(pool: Pool, own: Path, said: str) -> None:
    for size in (2, 3):
        answers = pool.run(
            train_from_the_loop, size, settings={**SMALL, "method.name": str(own)}, folder=str(own.parent / f"{size}")
        )
        assert all(said in answer for answer in answers), answers


@pytest.mark.slow
@pytest.mark.parametrize("own", ["fails"], indirect=True)
def test_torchrun__an_error_in_one_process_ends_all_with_its_own_line(
    own: Path, clr_cache: Path, tmp_path: Path
) -> None:
    command = torchrun(3, "pretrain", "--method", str(own), *SHORT, "--out", "run", restarts=2)
    began = time.monotonic()
    finished = subprocess.run(
        command, cwd=tmp_path, env=clr_environment(clr_cache), capture_output=True, text=True, timeout=PATIENCE
    )
    assert time.monotonic() - began < 120
    assert finished.returncode == 1
    said = [line for line in finished.stderr.splitlines() if line.startswith("error")]
    assert len(said) == 1, finished.stderr
    assert "own.py" in said[0]
    assert "AssertionError: not here" in said[0]
    assert "exitcode  : 6" in finished.stderr
