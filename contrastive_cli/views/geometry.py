"""Where a pixel comes from: crop, resize, flip, blur and affine maps, batched, each sample with its own parameters.

Crop, antialiased resize, flip and blur are separable and linear: out = Wy X Wx^T, with one pair of matrices per sample.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor


def crop_resize(images: Tensor, boxes: Tensor, *, size: int) -> Tensor:
    """Cut a box from each image and resize it to a square, bilinear with antialiasing.

    Args:
        images: [N, C, H, W] float.
        boxes: [N, 4] whole pixels: top, left, height, width, inside the image.
        size: Side of the result, in pixels.

    Returns:
        [N, C, size, size], in the images' units; equals torchvision's `resized_crop(..., antialias=True)`.
    """
    top, left, height, width = boxes.to(images.dtype).unbind(dim=1)
    rows = resize_weights(top, height, input_size=images.shape[2], size=size)
    columns = resize_weights(left, width, input_size=images.shape[3], size=size)
    return apply_weights(images, rows, columns)


def hflip(images: Tensor, flips: Tensor) -> Tensor:
    """Mirror the images [N, C, H, W] where `flips` [N] is true."""
    return torch.where(flips[:, None, None, None], images.flip(3), images)


def gaussian_blur(images: Tensor, sigma: Tensor, *, kernel_size: int) -> Tensor:
    """Gaussian blur with reflected borders.

    Args:
        images: [N, C, H, W] float.
        sigma: [N] standard deviation in pixels, positive.
        kernel_size: Odd, at most 2 * min(H, W) - 1.

    Raises:
        ValueError: If `kernel_size` is even or too large to reflect.
    """
    if kernel_size % 2 == 0 or kernel_size // 2 >= min(images.shape[2:]):
        raise ValueError(f"kernel_size must be odd and below twice the side, not {kernel_size}")
    kernel = _gaussian_kernel(sigma, kernel_size)
    rows, columns = (_band(kernel, size) for size in images.shape[2:])
    return apply_weights(images, rows, columns)


def affine(images: Tensor, *, angle: Tensor, translate: Tensor, scale: Tensor, shear: Tensor) -> Tensor:
    """Rotate, translate, scale and shear about the center; bilinear, zero outside, as torchvision's `affine`.

    Args:
        images: [N, C, H, W] float.
        angle: [N] degrees, clockwise.
        translate: [N, 2] pixels, x then y.
        scale: [N] zoom, positive.
        shear: [N] degrees along x.
    """
    height, width = images.shape[2:]
    theta = _inverse_affine(angle=angle, translate=translate, scale=scale, shear=shear)  # [N, 2, 3], in pixels
    theta = theta / theta.new_tensor([0.5 * width, 0.5 * height])[:, None]
    x = torch.arange(width, device=images.device, dtype=theta.dtype) - (width - 1) / 2
    y = torch.arange(height, device=images.device, dtype=theta.dtype) - (height - 1) / 2
    across = theta[:, None, None, :, 0] * x[:, None] + theta[:, None, None, :, 2]  # [N, 1, W, 2]
    grid = across + theta[:, None, None, :, 1] * y[:, None, None]  # [N, H, W, 2]
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def resize_weights(start: Tensor, length: Tensor, *, input_size: int, size: int, flips: Tensor | None = None) -> Tensor:
    """The matrix that resizes the pixels [start, start + length) of a line to `size` pixels.

    A triangle of half-width max(1, length / size) about each source position, cut at the box, rows normalized;
    the same as PyTorch's antialiased bilinear interpolation.

    Args:
        start: [N] first pixel.
        length: [N] pixels, at least 1.
        input_size: Length of the line.
        size: Length of the result.
        flips: [N] bool, reverse the result where true.

    Returns:
        [N, size, input_size], rows sum to 1.
    """
    steps = torch.arange(size, device=start.device, dtype=start.dtype).add_(0.5)
    if flips is not None:
        steps = torch.where(flips[:, None], steps.flip(0), steps)
    start, length = start[:, None], length[:, None]
    source = start - 0.5 + steps * (length / size)  # [N, size]
    pixels = torch.arange(input_size, device=start.device, dtype=start.dtype)
    if size >= input_size:  # every box is enlarged: two taps, and clamping the position cuts them at the box
        source = torch.minimum(torch.maximum(source, start), start + length - 1)
        return (source[:, :, None] - pixels).abs_().neg_().add_(1).clamp_(min=0)
    stretch = (length / size).clamp(min=1)[:, :, None]
    weights = (source[:, :, None] - pixels).div_(stretch).abs_().neg_().add_(1).clamp_(min=0)
    weights *= ((pixels >= start) & (pixels < start + length))[:, None]
    return weights.div_(weights.sum(dim=2, keepdim=True))


def blur_matrices(sigma: Tensor, *, applied: Tensor, kernel_size: int, size: int) -> Tensor:
    """The matrices [N, size, size] that blur a line by `sigma` [N] pixels, or leave it where not `applied` [N]."""
    identity = torch.arange(kernel_size, device=sigma.device) == kernel_size // 2
    return _band(torch.where(applied[:, None], _gaussian_kernel(sigma, kernel_size), identity.to(sigma.dtype)), size)


def apply_weights(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Rows [N, S, H], images [N, C, H, W] and columns [N, T, W] -> [N, C, S, T], two batched products."""
    across = torch.bmm(images.flatten(1, 2), columns.transpose(1, 2))  # [N, C*H, T]
    # This copies `rows` for every channel, which is cheaper than three products of parts that do not lie side by side.
    return torch.matmul(rows[:, None], across.view(*images.shape[:3], -1))


def _inverse_affine(*, angle: Tensor, translate: Tensor, scale: Tensor, shear: Tensor) -> Tensor:
    """Output position -> input position about the center, in pixels; [N, 2, 3]."""
    turn, lean = angle.deg2rad(), shear.deg2rad().tan()
    cosine, sine = turn.cos(), turn.sin()
    # The forward map is R(angle) [[1, -lean], [0, 1]] * scale; its determinant is scale^2.
    linear = torch.stack((cosine - sine * lean, sine + cosine * lean, -sine, cosine), dim=1).view(-1, 2, 2)
    linear = linear / scale[:, None, None]
    return torch.cat((linear, -(linear * translate[:, None, :]).sum(dim=2, keepdim=True)), dim=2)


def _gaussian_kernel(sigma: Tensor, kernel_size: int) -> Tensor:
    offsets = torch.arange(kernel_size, device=sigma.device, dtype=sigma.dtype) - kernel_size // 2
    return (-0.5 * (offsets / sigma[:, None]).square()).softmax(dim=1)  # [N, K]


def _band(kernel: Tensor, size: int) -> Tensor:
    """The matrices [N, size, size] that convolve a line with the kernels [N, K]."""
    return (kernel @ _reflected_shifts(size, kernel.shape[1], kernel.device)).view(-1, size, size)


@lru_cache(maxsize=16)
def _reflected_shifts(size: int, kernel_size: int, device: torch.device) -> Tensor:
    """[K, size * size]: for each tap of a kernel, the matrix that shifts a line by it and reflects at the borders."""
    lines = torch.arange(size)
    taps = torch.arange(kernel_size)[:, None] - kernel_size // 2
    source = (lines + taps).abs()
    source = (size - 1) - ((size - 1) - source).abs()
    return F.one_hot(source, size).to(torch.float32).flatten(1).to(device)
