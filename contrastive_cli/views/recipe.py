"""How a view is made, as data. Everything is off until it is given a probability or a strength."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from contrastive_cli.core.config import Config

Probability = Annotated[float, Field(ge=0, le=1)]
Strength = Annotated[float, Field(ge=0)]
Range = tuple[float, float]


class Recipe(Config):
    """The augmentation of one view. The operations run in the order of the fields.

    `fast` composes all geometry into two matrices and all color into one matrix per image, and clamps once at the
    end; `exact` runs torchvision's operations one after the other with every clamp and hue in HSV space.
    """

    mode: Literal["fast", "exact"] = "fast"

    crop_probability: Probability = 0.0
    crop_area: Annotated[Range, Field(description="part of the image's area, least and most")] = (0.08, 1.0)
    crop_aspect: Annotated[Range, Field(description="width / height of the crop, least and most")] = (3 / 4, 4 / 3)
    flip_probability: Probability = 0.0

    affine_probability: Probability = 0.0
    rotation: Annotated[float, Field(ge=0, le=180, description="degrees to either side")] = 0.0
    shear: Annotated[float, Field(ge=0, lt=90, description="degrees to either side, along x")] = 0.0
    translate: Annotated[float, Field(ge=0, le=1, description="part of the side, in every direction")] = 0.0
    scale: Annotated[Range, Field(description="zoom, least and most")] = (1.0, 1.0)

    jitter_probability: Probability = 0.0
    brightness: Strength = 0.0
    contrast: Strength = 0.0
    saturation: Strength = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5, description="part of the color circle, to either side")] = 0.0
    grayscale_probability: Probability = 0.0

    blur_probability: Probability = 0.0
    blur_sigma: Annotated[Range, Field(description="pixels, least and most")] = (0.1, 2.0)
    blur_kernel: Annotated[float, Field(gt=0, le=1, description="part of the view's side, see `kernel_size`")] = 0.1

    solarize_probability: Probability = 0.0
    solarize_threshold: Probability = 0.5
    noise_probability: Probability = 0.0
    noise_sigma: Annotated[Range, Field(description="of additive noise, least and most; the image is in [0, 1]")] = (
        0.05,
        0.05,
    )

    @model_validator(mode="after")
    def _ranges_are_ranges(self) -> Self:
        for name in ("crop_area", "crop_aspect", "scale", "blur_sigma"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} must be two positive numbers, the smaller first, not [{low:g}, {high:g}]")
        if not 0 <= self.noise_sigma[0] <= self.noise_sigma[1] <= 1:
            low, high = self.noise_sigma
            raise ValueError(f"noise_sigma must be two numbers in [0, 1], the smaller first, not [{low:g}, {high:g}]")
        if self.crop_area[1] > 1:
            raise ValueError(f"crop_area must not exceed 1, the whole image, not {self.crop_area[1]:g}")
        return self

    def kernel_size(self, size: int) -> int:
        """The blur kernel's side for views of `size` pixels: `blur_kernel` of it, made odd, at least 3, within it."""
        wanted = max(3, int(self.blur_kernel * size) // 2 * 2 + 1)
        return min(wanted, (size - 1) // 2 * 2 + 1)


class ViewGroup(Recipe):
    """Views of an image that are made alike: how many, how large, and by which recipe.

    Attributes:
        count: Views V_g of the group.
        size: Side of the views in pixels; None for the usual size times `size_ratio`.
        size_ratio: Of the usual size of a view, where `size` is not given.
    """

    count: int = Field(1, ge=1, le=256)
    size: int | None = Field(None, ge=4, le=4096)
    size_ratio: Annotated[float, Field(gt=0, le=4)] = 1.0

    def pixels(self, usual: int) -> int:
        """Side of the views in pixels, where a view has `usual` pixels."""
        return self.size or max(4, round(self.size_ratio * usual))


# Chen et al. 2020, https://arxiv.org/abs/2002.05709, appendix A, at color strength 0.5.
_SIMCLR = Recipe(
    crop_probability=1.0,
    flip_probability=0.5,
    jitter_probability=0.8,
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    hue=0.1,
    grayscale_probability=0.2,
    blur_probability=0.5,
)
# Grill et al. 2020, https://arxiv.org/abs/2006.07733, appendix B: the recipes T and T' of its two views.
_BYOL_FIRST = _SIMCLR.model_copy(update={"saturation": 0.2, "blur_probability": 1.0})
_BYOL_SECOND = _BYOL_FIRST.model_copy(update={"blur_probability": 0.1, "solarize_probability": 0.2})
_SMALL = {"crop_area": (0.2, 1.0), "blur_probability": 0.0}
RECIPES: dict[str, Recipe] = {
    "simclr": _SIMCLR,
    # For images of about 32 pixels: milder crops and no blur, as in the same paper's appendix B.9 for CIFAR-10.
    "simclr-small": _SIMCLR.model_copy(update=_SMALL),
    "byol-first": _BYOL_FIRST,
    "byol-second": _BYOL_SECOND,
    "byol-first-small": _BYOL_FIRST.model_copy(update=_SMALL),
    "byol-second-small": _BYOL_SECOND.model_copy(update=_SMALL),
    # A mirrored or cropped digit is another sign, or none: only small motions of the hand.
    "digits": Recipe(
        affine_probability=1.0,
        rotation=15.0,
        shear=10.0,
        translate=0.15,
        scale=(0.8, 1.2),
        jitter_probability=0.8,
        brightness=0.3,
        noise_probability=1.0,
    ),
    "light": Recipe(crop_probability=1.0, crop_area=(0.5, 1.0), flip_probability=0.5),
    "none": Recipe(),
}
