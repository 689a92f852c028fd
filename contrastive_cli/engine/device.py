"""Which device to compute on."""

from __future__ import annotations

import torch

from contrastive_cli.core.errors import UsageError


def choose_device(requested: str) -> torch.device:
    """`auto` takes the accelerator if there is one; anything else must exist on this machine.

    Raises:
        UsageError: If the device is unknown or absent.
    """
    if requested == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(requested)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"device {requested!r} cannot be used: {reason}", hint="pass --device cpu") from None
    return device
