"""Counter-based random numbers: a pure hash of (seed, epoch, sample index, view, slot), by int64 tensor operations.

A number depends on nothing else, so views are the same in any batch, on any number of processes and after a resume.
The rounds are a 32-bit xorshift-multiply finalizer (hash-prospector, https://github.com/skeeto/hash-prospector);
both multipliers are below 2^31, so no product overflows int64 and the bits are equal on every device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_MULTIPLIER_1 = 0x21F0AAAD
_MULTIPLIER_2 = 0x735A2D97
_GOLDEN = 0x9E3779B9


def uniform(*, seed: int, epoch: int, indices: Tensor, views: Sequence[int], slots: int, stream: int = 0) -> Tensor:
    """Uniform numbers, one row per view of a sample; bit-identical on every device and in every batch.

    Args:
        seed: Any integer; 64 bits of it count.
        epoch: Any integer.
        indices: [B] int64, position of each sample in the data set, not negative.
        views: V numbers, which views of every sample.
        slots: How many numbers per sample; slot k is the same number whatever `slots` is.
        stream: Separates independent uses of the same counters.

    Returns:
        [V*B, slots] float32 in [0, 1), multiples of 2^-24; the rows of the first view come first.
    """
    bits = _hash(seed=seed, epoch=epoch, indices=indices, views=views, slots=slots, stream=stream)
    return bits.bitwise_right_shift_(8).to(torch.float32).mul_(2.0**-24)


def normal(*, seed: int, epoch: int, indices: Tensor, views: Sequence[int], slots: int, stream: int = 0) -> Tensor:
    """Standard normal numbers [V*B, slots] float32 by Box-Muller; arguments as in `uniform`.

    The bits below are equal on every device; log and cos differ between devices in the last place.
    """
    pairs = uniform(seed=seed, epoch=epoch, indices=indices, views=views, slots=slots + slots % 2, stream=stream)
    radius = pairs[:, 0::2].neg().log1p_().mul_(-2).sqrt_()  # 1 - u is in (0, 1]: the log is finite
    angle = pairs[:, 1::2].mul(2 * math.pi)
    both = torch.stack((radius * angle.cos(), radius * angle.sin()), dim=2)
    return both.flatten(1)[:, :slots]


def _hash(*, seed: int, epoch: int, indices: Tensor, views: Sequence[int], slots: int, stream: int) -> Tensor:
    """[V*B, slots] int64 holding 32 random bits; two words of state per row keep samples, views and epochs apart."""
    low, high = indices & _MASK, indices >> 32
    words = [(seed, seed >> 32, epoch, view, stream) for view in views]
    states = torch.cat([low ^ _mix_words(start, word) for start in (_GOLDEN, _MULTIPLIER_2) for word in words])
    states = _mix_(_mix_(states).bitwise_xor_(high.repeat(2 * len(words))).bitwise_and_(_MASK))
    word_1, word_2 = states[:, None].chunk(2)  # [V*B, 1] each
    counters = torch.arange(1, slots + 1, device=indices.device).mul_(_GOLDEN).bitwise_and_(_MASK)
    return _mix_(_mix_((word_1 + counters).bitwise_and_(_MASK)).bitwise_xor_(word_2))


def _mix_(word: Tensor) -> Tensor:
    """The finalizer, in place; [any shape] int64 holding 32 bits."""
    word.bitwise_xor_(word >> 16).mul_(_MULTIPLIER_1).bitwise_and_(_MASK)
    word.bitwise_xor_(word >> 15).mul_(_MULTIPLIER_2).bitwise_and_(_MASK)
    return word.bitwise_xor_(word >> 15)


def _mix_words(key: int, words: tuple[int, ...]) -> int:
    for word in words:
        key ^= word & _MASK
        key = (key ^ key >> 16) * _MULTIPLIER_1 & _MASK
        key = (key ^ key >> 15) * _MULTIPLIER_2 & _MASK
        key = (key ^ key >> 15) + _GOLDEN & _MASK  # without the sum a chain of zeros would stay zero
    return key
