"""Encoders as compiled code while they are trained; their weights and names stay as they are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn

from contrastive_cli.core.errors import TrainingError
from contrastive_cli.core.types import Method

ENCODERS = ("encoder", "target_encoder")


@contextlib.contextmanager
def compiled_encoder(method: Method) -> Iterator[None]:
    """Compile the encoders of a method at their first call, and let them be as before in the end.

    Only the forward function is replaced, in place: checkpoints, copies and names are those of the plain module.

    Raises:
        TrainingError: If what compiles cannot: no C++ compiler or Triton, or a module that it does not understand.
    """
    from torch._dynamo.exc import TorchDynamoException

    modules = [module for name in ENCODERS if isinstance(module := getattr(method, name, None), nn.Module)]
    for module in modules:
        module.compile()
    try:
        yield
    except TorchDynamoException as error:
        reason = " ".join(str(error).split())[:160]
        raise TrainingError(f"the encoder cannot be compiled here: {reason}", hint="leave --compile out") from error
    finally:
        for module in modules:
            module._compiled_call_impl = None  # torch has no way back that is public
