"""Color operations, batched, each sample with its own factor, and all of them composed into one matrix per image.

Images are [N, C, H, W] float in [0, 1]; factors are [N]. Definitions as in torchvision for C = 3 and 1. Other numbers
of channels are bands that are no colors: their gray is the mean over bands, and there is no hue to turn.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from contrastive_cli.views.parameters import BRIGHTNESS, CONTRAST, HUE, SATURATION, Parameters

_LUMA = (0.2989, 0.587, 0.114)


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Scale images [B, C, H, W] by factors [B]: 0 is black, 1 changes nothing."""
    return _blend(images, torch.zeros_like(images[:, :1]), factor)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Move the pixels of [B, C, H, W] from their image's mean gray: factor [B] 0 is that gray, 1 changes nothing."""
    return _blend(images, _gray(images).mean(dim=(2, 3), keepdim=True), factor)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Move the pixels of [B, C, H, W] from their own gray: factor [B] 0 is gray, 1 as it was. No effect if C = 1."""
    return images if images.shape[1] == 1 else _blend(images, _gray(images), factor)


def adjust_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue of [B, C, H, W] in HSV space by `shift` [B] in [-0.5, 0.5] of the circle. No effect unless C = 3."""
    if images.shape[1] != 3:
        return images
    high, low = images.amax(dim=1, keepdim=True), images.amin(dim=1, keepdim=True)
    spread = high - low
    red, green, blue = ((high - images) / spread.masked_fill(spread == 0, 1.0))[:, :, None].unbind(dim=1)
    is_red, is_green = images[:, :1] == high, images[:, 1:2] == high
    hue = torch.where(is_red, blue - green, torch.where(is_green, 2 + red - blue, 4 + green - red))
    # V - C * clamp(min(k, 4 - k), 0, 1) with k = (n + 6 hue) mod 6 and n = 5, 3, 1: HSV to RGB without branches.
    corners = images.new_tensor([5.0, 3.0, 1.0])[:, None, None]
    sector = (corners + hue + 6 * shift[:, None, None, None]).remainder_(6)
    return high - spread * torch.minimum(sector, 4 - sector).clamp_(0, 1)


def grayscale(images: Tensor) -> Tensor:
    """The luma of [B, C, H, W], or the mean over bands that are no colors, in each of the C channels."""
    return _gray(images).expand_as(images)


def solarize(images: Tensor, *, threshold: float) -> Tensor:
    """Invert the values of [B, C, H, W] in [0, 1] at or above `threshold`."""
    return torch.where(images >= threshold, 1 - images, images)


def jitter(images: Tensor, parameters: Parameters) -> Tensor:
    """The four adjustments of [B, C, H, W] in each sample's order, clamped after each, as torchvision's ColorJitter."""
    order, factors = parameters.order, parameters.jitter
    hue_position = (order == HUE).int().argmax(dim=1)
    for position in range(3):
        images = _blend_step(images, order[:, position], factors, active=hue_position > position)
    images = adjust_hue(images, factors[:, HUE])
    for position in range(1, 4):
        images = _blend_step(images, order[:, position], factors, active=hue_position < position)
    return images


def color_matrix(means: Tensor, parameters: Parameters) -> tuple[Tensor, Tensor]:
    """Jitter and grayscale of each image as one affine map of its colors, without the clamps in between.

    Hue is a rotation about the gray axis instead of a shift in HSV space; both agree at thirds of the circle.

    Args:
        means: [N, C] mean color of each image in [0, 1], where the contrast pivots.
        parameters: Of the N images.

    Returns:
        matrix [N, C, C] and bias [N, C, 1]: color -> matrix @ color + bias.
    """
    # Brightness b and contrast c scale, hue is a rotation R that keeps grays, saturation is s I + (1 - s) 1 l with the
    # luma l in each row. So only l or l R, from hue before or after saturation, and the mean color that contrast sees
    # depend on the order; a gray that contrast adds stays gray.
    channels = means.shape[1]
    luma = _luma(channels, means.device)
    brightness, contrast, saturation, hue = parameters.jitter[:, :, None].unbind(dim=1)  # [N, 1] each
    place = parameters.order.argsort(dim=1)[:, :, None]
    turn = hue * (2 * torch.pi)
    terms = torch.cat((turn.cos(), torch.ones_like(turn), turn.sin()), dim=1) @ _rotation_terms(channels, means.device)
    rotation, turned_luma = terms[:, :-channels].view(-1, channels, channels), terms[:, -channels:]
    desaturated = (1 - saturation) * torch.where(place[:, HUE] < place[:, SATURATION], turned_luma, luma)  # [N, C]
    white = luma.sum()  # 0.9999: the luma of white
    matrix = saturation[:, :, None] * rotation + desaturated[:, None]
    to_gray = saturation * turned_luma + white * desaturated  # luma @ matrix
    pivot = torch.where(
        place[:, HUE] < place[:, CONTRAST],
        (to_gray * means).sum(dim=1, keepdim=True),
        (saturation + white * (1 - saturation)) * (means @ luma.T),
    )
    bias = pivot * (brightness * (1 - contrast))
    gray = parameters.grayscale[:, None]
    matrix = torch.where(gray[:, None], to_gray[:, None], matrix) * (brightness * contrast)[:, None]
    return matrix, torch.where(gray, white * bias, bias)[:, None].expand(-1, channels, 1)


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    factor = factor[:, None, None, None]
    return (images * factor + other * (1 - factor)).clamp_(0, 1)


def _blend_step(images: Tensor, operation: Tensor, factors: Tensor, *, active: Tensor) -> Tensor:
    """Brightness, contrast or saturation by each sample's `operation` [N]; nothing where not `active`."""
    factor = factors.gather(1, operation[:, None])[:, 0]
    if images.shape[1] == 1:
        active = active & (operation != SATURATION)
    factor = torch.where(active, factor, 1.0)
    gray = _gray(images)
    operation = operation[:, None, None, None]
    mean = gray.mean(dim=(2, 3), keepdim=True).masked_fill(operation == BRIGHTNESS, 0.0)
    return _blend(images, torch.where(operation == SATURATION, gray, mean), factor)


def _gray(images: Tensor) -> Tensor:
    """[N, 1, H, W]."""
    if images.shape[1] == 1:
        return images
    if images.shape[1] != 3:
        return images.mean(dim=1, keepdim=True)
    red, green, blue = images[:, :, None].unbind(dim=1)
    return (red * _LUMA[0]).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2])


@lru_cache(maxsize=16)
def _luma(channels: int, device: torch.device) -> Tensor:
    return torch.tensor([_LUMA if channels == 3 else (1 / channels,) * channels], device=device)  # [1, C]


@lru_cache(maxsize=16)
def _rotation_terms(channels: int, device: torch.device) -> Tensor:
    """What cos, 1 and sin of an angle multiply in R, which turns about the gray axis (Rodrigues), and in luma @ R.

    [3, (C + 1) * C]: R row by row, then luma @ R. What is no color has no hue, so its R is 1.
    """
    terms = torch.zeros(3, channels, channels)
    if channels == 3:
        terms[1] = 1 / channels  # the projection on the gray axis
        terms[0] = torch.eye(channels) - terms[1]
        terms[2] = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / 3**0.5
    else:
        terms[1] = torch.eye(channels)
    luma = _luma(channels, terms.device)
    return torch.cat((terms, luma @ terms), dim=1).flatten(1).to(device)
