"""Tensors that fit after a change that is meant: positions of a ViT for another size, kernels for other channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from contrastive_cli.models.weights.matching import Match

RGB = 3


def reshaped(encoder: nn.Module, match: Match, given: Mapping[str, Tensor]) -> Match:
    """The match with those of its misshapen tensors that can be brought into shape.

    Args:
        encoder: The encoder that is to be filled.
        match: What was found.
        given: The tensors of the file, by their names there.
    """
    changed: dict[str, Tensor] = {}
    for name, there, wanted in match.misshapen:
        tensor = given.get(match.prefix + name)
        if tensor is None:
            continue
        if len(there) == len(wanted) == 4 and there[1] == RGB and (there[0], *there[2:]) == (wanted[0], *wanted[2:]):
            changed[name] = for_channels(tensor, wanted[1])
        elif name.endswith("pos_embed") and len(there) == len(wanted) == 3 and there[2] == wanted[2]:
            positions = _resampled(encoder, tensor)
            if positions is not None and tuple(positions.shape) == wanted:
                changed[name] = positions
    rest = tuple(one for one in match.misshapen if one[0] not in changed)
    return replace(match, tensors={**match.tensors, **changed}, misshapen=rest)


def for_channels(kernel: Tensor, channels: int) -> Tensor:
    """A kernel [O, 3, h, w] for pictures of other channels: [O, channels, h, w].

    A gray image is the mean of three equal channels. Of more, as timm does it, each is red, green, blue in turn, at the
    strength of three.
    """
    if channels == 1:
        return kernel.sum(dim=1, keepdim=True)
    repeated = kernel.repeat(1, -(-channels // RGB), 1, 1)
    return repeated[:, :channels] * (RGB / channels)


def _resampled(encoder: Any, positions: Tensor) -> Tensor | None:
    """Positions [1, N, D] of a ViT of timm for its own grid, which another image size has made another."""
    grid = getattr(getattr(encoder, "patch_embed", None), "grid_size", None)
    if grid is None:
        return None
    from timm.layers import pos_embed

    own = encoder.pos_embed.shape[1] - grid[0] * grid[1]
    resampled: Tensor = pos_embed.resample_abs_pos_embed(positions.float(), new_size=list(grid), num_prefix_tokens=own)
    return resampled
