"""Views in batches: uint8 images in, normalized float views out, the same code on CPU and GPU, no loop over samples.

Every view's parameters are a function of (seed, epoch, sample index, view), see `draws`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastive_cli.core.pictures import MOST_CHANNELS
from contrastive_cli.views import color, geometry
from contrastive_cli.views.draws import normal, uniform
from contrastive_cli.views.parameters import NUM_SLOTS, Parameters, draw_parameters
from contrastive_cli.views.recipe import Recipe

_NOISE_STREAM = 1


def make_views(
    images: Tensor,
    *,
    recipes: Sequence[Recipe],
    indices: Tensor,
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    seed: int,
    epoch: int,
    first_view: int = 0,
) -> Tensor:
    """Augment and normalize V views of B images.

    Args:
        images: [V, B, C, H, W] uint8, C from 1 to 16 (`expand` one batch to make several views of it).
        recipes: One per view; views with equal recipes are made in one pass.
        indices: [B] int64, position of each sample in the data set.
        size: Side of the views, in pixels.
        mean: C numbers, of pixels in [0, 1].
        std: C numbers, positive.
        seed: Of the run.
        epoch: Counted from anywhere.
        first_view: Number of the first view, to make the views of a sample in several calls.

    Returns:
        [V, B, C, size, size] float32; flattened to [V*B, ...] its memory is channels_last.

    Raises:
        ValueError: If shapes, types or lengths do not fit together.
    """
    _check(images, mean=mean, std=std, ndim=5)
    if len(recipes) != len(images) or indices.shape != images.shape[1:2]:
        raise ValueError(f"{len(recipes)} recipes and indices {list(indices.shape)} for images {list(images.shape)}")
    groups = [slice(0, len(images))] if len(set(recipes)) == 1 else [slice(v, v + 1) for v in range(len(images))]
    made = [
        _augment(
            images[group].flatten(0, 1),
            recipes[group.start],
            _Counters(seed=seed, epoch=epoch, indices=indices.to(images.device), first=first_view + group.start),
            size=size,
        )
        for group in groups
    ]
    views = made[0] if len(made) == 1 else torch.cat(made)
    views = _normalize(views, mean=mean, std=std)
    return views.view(*images.shape[:2], *views.shape[1:])


def to_input(images: Tensor, *, size: int, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Resize (stretching, antialiased bilinear) if needed and normalize: what embedding and evaluation see.

    Args:
        images: [B, C, H, W] uint8, C from 1 to 16.
        size: Side of the result, in pixels.
        mean: C numbers, of pixels in [0, 1].
        std: C numbers, positive.

    Returns:
        [B, C, size, size] float32, channels_last.

    Raises:
        ValueError: If shapes, types or lengths do not fit together.
    """
    _check(images, mean=mean, std=std, ndim=4)
    pixels = images.to(torch.float32)
    if images.shape[2:] != (size, size):
        pixels = F.interpolate(pixels, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
    return _normalize(pixels.mul_(1 / 255), mean=mean, std=std)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Counters:
    """What the draws of consecutive views are a function of."""

    seed: int
    epoch: int
    indices: Tensor
    first: int

    def draw(self, distribution: Callable[..., Tensor], *, num_views: int, slots: int, stream: int = 0) -> Tensor:
        """[V*B, slots]."""
        views = range(self.first, self.first + num_views)
        counters = {"seed": self.seed, "epoch": self.epoch, "indices": self.indices}
        return distribution(**counters, views=views, slots=slots, stream=stream)


def _augment(images: Tensor, recipe: Recipe, counters: _Counters, *, size: int) -> Tensor:
    """[N, C, H, W] uint8 -> [N, C, size, size] float32 in [0, 1]."""
    height, width = images.shape[2:]
    num_views = len(images) // len(counters.indices)
    draws = counters.draw(uniform, num_views=num_views, slots=NUM_SLOTS)
    parameters = draw_parameters(recipe, draws, height=height, width=width, size=size)
    make = _fast if recipe.mode == "fast" else _exact
    views = make(images.to(torch.float32), recipe, parameters, size=size)
    if recipe.solarize_probability > 0:
        inverted = color.solarize(views, threshold=recipe.solarize_threshold)
        views = torch.where(parameters.solarize[:, None, None, None], inverted, views)
    if recipe.noise_probability > 0:
        _add_noise_(views, parameters.noise, counters, num_views=num_views)
    return views


def _add_noise_(views: Tensor, sigma: Tensor, counters: _Counters, *, num_views: int) -> None:
    """In place; on the CPU only where sigma is not 0, elsewhere everywhere, since to count rows there means to wait."""
    num_pixels = views[0].numel()
    for number, part, spread in zip(range(num_views), views.chunk(num_views), sigma.chunk(num_views), strict=True):
        rows = spread.nonzero()[:, 0] if views.device.type == "cpu" else torch.arange(len(part), device=views.device)
        one_view = replace(counters, indices=counters.indices[rows], first=counters.first + number)
        noise = one_view.draw(normal, num_views=1, slots=num_pixels, stream=_NOISE_STREAM)
        noise = noise.view(-1, *views.shape[1:])
        part[rows] = torch.addcmul(part[rows], noise, spread[rows, None, None, None]).clamp_(0, 1)


def _fast(pixels: Tensor, recipe: Recipe, parameters: Parameters, *, size: int) -> Tensor:
    """All geometry as two matrices, then all color as one; `pixels` in [0, 255]."""
    height, width = pixels.shape[2:]
    blurs = recipe.blur_probability > 0
    if blurs or recipe.crop_probability > 0 or recipe.flip_probability > 0 or (height, width) != (size, size):
        top, left, box_height, box_width = parameters.boxes.unbind(dim=1)
        rows = geometry.resize_weights(top, box_height, input_size=height, size=size)
        columns = geometry.resize_weights(left, box_width, input_size=width, size=size, flips=parameters.flips)
        if blurs:
            blur = geometry.blur_matrices(
                parameters.sigma, applied=parameters.blur, kernel_size=recipe.kernel_size(size), size=size
            )
            rows, columns = torch.bmm(blur, rows), torch.bmm(blur, columns)
        pixels = geometry.apply_weights(pixels, rows, columns)
    if recipe.affine_probability > 0:
        pixels = _affine(pixels, parameters)
    planes = pixels.flatten(2)  # [N, C, S*S]
    matrix, bias = color.color_matrix(planes.mean(dim=2) / 255, parameters)
    return torch.baddbmm(bias, matrix / 255, planes).clamp_(0, 1).view_as(pixels)


def _exact(pixels: Tensor, recipe: Recipe, parameters: Parameters, *, size: int) -> Tensor:
    """One operation after the other, as torchvision; `pixels` in [0, 255]."""
    views = geometry.crop_resize(pixels.mul_(1 / 255), parameters.boxes, size=size)
    views = geometry.hflip(views, parameters.flips)
    if recipe.affine_probability > 0:
        views = _affine(views, parameters)
    views = color.jitter(views, parameters)
    views = torch.where(parameters.grayscale[:, None, None, None], color.grayscale(views), views)
    if recipe.blur_probability > 0:
        blurred = geometry.gaussian_blur(views, parameters.sigma, kernel_size=recipe.kernel_size(size))
        views = torch.where(parameters.blur[:, None, None, None], blurred, views)
    return views


def _affine(images: Tensor, parameters: Parameters) -> Tensor:
    return geometry.affine(
        images,
        angle=parameters.angle,
        translate=parameters.translate,
        scale=parameters.scale,
        shear=parameters.shear,
    )


def _normalize(images: Tensor, *, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(images - mean) / std in place, channels_last."""
    for channel, (center, spread) in enumerate(zip(mean, std, strict=True)):
        images[:, channel].sub_(center).mul_(1 / spread)  # numbers, not a tensor: broadcasting is slower
    return images.contiguous(memory_format=torch.channels_last)


def _check(images: Tensor, *, mean: Sequence[float], std: Sequence[float], ndim: int) -> None:
    if images.dtype != torch.uint8 or images.ndim != ndim or not 1 <= images.shape[-3] <= MOST_CHANNELS:
        raise ValueError(
            f"images must be {ndim}-dimensional uint8 with 1 to {MOST_CHANNELS} channels, not {_described(images)}"
        )
    if not len(mean) == len(std) == images.shape[-3] or min(std) <= 0:
        raise ValueError(
            f"mean {list(mean)} and positive std {list(std)} must have one number per channel of the images"
        )


def _described(images: Tensor) -> str:
    return f"{str(images.dtype).removeprefix('torch.')} {list(images.shape)}"
