"""How pictures become what an encoder sees: what its weights bring with them, and what a person says instead."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from contrastive_cli.core.config import Config
from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.framing import LARGEST_SIDE, EncoderInput, Framing, Interpolation, ResizeRule


class PreprocessConfig(Config):
    """How pictures become what the encoder sees; None is what comes with its weights, else measured on the images.

    Attributes:
        resize: Pixels to which pictures are brought before the center of `dataset.size` is cut out.
        rule: shorter brings the shorter side to that length, squash both sides.
        interpolation: Of the resizing: nearest, box, bilinear, hamming, bicubic or lanczos.
        mean: Of each channel, of pixels in [0, 1].
        std: Of each channel.
        origin: Where these come from; written beside them once they are known.
    """

    resize: int | None = Field(None, ge=1, le=LARGEST_SIDE)
    rule: ResizeRule | None = None
    interpolation: Interpolation | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[Annotated[float, Field(gt=0)], ...] | None = None
    origin: str | None = None

    def framing(self, size: int) -> Framing | None:
        """How pictures become squares of `size` pixels; None for the rule of this package.

        Raises:
            UsageError: If they would be smaller than the square.
        """
        if (self.resize, self.rule, self.interpolation) == (None, None, None):
            return None
        if self.resize is not None and self.resize < size:
            raise UsageError(
                f"preprocess.resize {self.resize} is below the size {size}: the square would reach beyond the picture",
                hint="give a larger preprocess.resize, or a smaller dataset.size",
            )
        return Framing(
            resize=self.resize or size,
            rule=self.rule or "shorter",
            interpolation=self.interpolation or "bicubic",
        )

    def stored_framing(self, size: int, stored_size: int | None) -> Framing | None:
        """That of the squares that are kept, of which the encoder sees `size` pixels."""
        framing = self.framing(size)
        return None if framing is None else framing.scaled(size, to=stored_size or size)


def with_input(given: PreprocessConfig, seen: EncoderInput, *, size: int | None) -> tuple[PreprocessConfig, int]:
    """What a person says, and of the rest what comes with the weights; and the side in pixels.

    Args:
        given: What a person says.
        seen: What comes with the weights.
        size: The side that a person asks for; None takes the encoder's own.

    Raises:
        UsageError: If there is not one mean and one deviation for each channel.
    """
    side = size or seen.size
    framing = None if seen.framing is None else seen.framing.scaled(seen.size, to=side)
    own = {} if framing is None else framing.model_dump()
    own |= {"mean": seen.mean or None, "std": seen.std or None, "origin": seen.origin}
    said = {key: value for key, value in given.model_dump().items() if value is not None}
    filled = PreprocessConfig(**{**own, **said})
    counts = [len(numbers or ()) for numbers in (filled.mean, filled.std)]
    if counts[0] != counts[1] or (seen.mean and counts[0] != len(seen.mean)):
        raise UsageError(f"preprocess.mean and preprocess.std need one number for each of {len(seen.mean)} channels")
    filled.framing(side)  # refuses a square that reaches beyond the picture
    return filled, side
