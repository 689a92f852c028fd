"""The processes of a training compare what they have: the images, the programs, and the state that they train."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from contrastive_cli.core.errors import TrainingError
from contrastive_cli.core.provenance import versions
from contrastive_cli.engine.distributed import num_processes, of_all
from contrastive_cli.services.training.setup import TrainingSetup

NO_GENERATOR = (
    "draw from `batch.normal` instead of torch's generator, which no two processes share (dropout draws from it too)"
)


def refuse_other_start(setup: TrainingSetup, *, step: int) -> None:
    """Ask, before the first step, that all processes begin with the same; until then nobody goes on.

    Raises:
        TrainingError: With what is different.
    """
    if num_processes() == 1:
        return
    facts = {
        "the step to go on from": step,
        "the images": setup.images.fingerprint,
        "the version of torch": versions()["torch"],
        "the weights": state_digest(setup),
    }
    if setup.config.train.reduction == "ordered":
        facts["the number of threads"] = torch.get_num_threads()
    everyone = of_all(facts)
    for other, theirs in enumerate(everyone):
        for name, value in theirs.items():
            if value != everyone[0][name]:
                raise TrainingError(
                    f"process {other} does not begin with {name} of process 0: {value}, not {everyone[0][name]}",
                    hint="all processes need the same installation, images and run directory",
                )


def refuse_other_state(setup: TrainingSetup, *, step: int, undrawn: str | None = None) -> None:
    """Ask that all processes have trained the same weights, and have drawn no random numbers that others have not.

    Args:
        setup: What is trained.
        step: Steps that are done.
        undrawn: `random_digest` from before these steps, in which nothing may have been drawn; None does not ask.

    Raises:
        TrainingError: If one has.
    """
    if num_processes() == 1:
        return
    digests = of_all((state_digest(setup), random_digest(setup)))
    for other, (state, random) in enumerate(digests):
        if state != digests[0][0]:
            raise TrainingError(
                f"after step {step} process {other} has other weights than process 0",
                hint="a method that keeps state of its own has to exchange it, see docs/scale.md; else a machine "
                "computes wrongly. The last checkpoint is kept",
            )
        if random != digests[0][1]:
            raise TrainingError(
                f"after step {step} process {other} has drawn other random numbers than process 0",
                hint=NO_GENERATOR,
            )
    if undrawn not in (None, digests[0][1]):
        raise TrainingError("every micro-batch draws random numbers from torch's generator", hint=NO_GENERATOR)


def state_digest(setup: TrainingSetup) -> str:
    """Hex sha256 of all weights, buffers and of the optimizer's state."""
    digest = hashlib.sha256()
    states: tuple[Any, ...] = (setup.method.state_dict(), setup.optimizer.state_dict()["state"])
    for name, value in _leaves(states):
        digest.update(name.encode())
        if isinstance(value, Tensor):
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        else:
            digest.update(repr(value).encode())
    return digest.hexdigest()


def random_digest(setup: TrainingSetup) -> str:
    """Hex sha256 of the state of torch's generators, which drawing changes."""
    digest = hashlib.sha256(torch.get_rng_state().numpy().tobytes())
    if setup.device.type == "cuda":
        digest.update(torch.cuda.get_rng_state(setup.device).numpy().tobytes())
    return digest.hexdigest()


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, f"{name}/{key}")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _leaves(item, f"{name}/{number}")
    else:
        yield name, value
