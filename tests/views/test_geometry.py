"""Geometry: equal to torchvision v2, sample by sample."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from contrastive_cli.views.geometry import affine, blur_matrices, crop_resize, gaussian_blur, hflip, resize_weights


def images(num: int = 24, *, channels: int = 3, height: int = 40, width: int = 52) -> Tensor:
    return torch.rand(num, channels, height, width, generator=torch.Generator().manual_seed(0))


def boxes(num: int = 24, *, height: int = 40, width: int = 52) -> Tensor:
    draws = torch.rand(4, num, generator=torch.Generator().manual_seed(1))
    box_height, box_width = (draws[0] * height).long() + 1, (draws[1] * width).long() + 1
    top, left = (draws[2] * (height - box_height + 1)).long(), (draws[3] * (width - box_width + 1)).long()
    return torch.stack((top, left, box_height, box_width), dim=1)


@pytest.mark.parametrize("size", [7, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_crop_resize__matches_torchvision(size: int, channels: int) -> None:
    pictures = images(channels=channels)
    expected = [
        tv.resized_crop(picture, *box.tolist(), size=[size, size], antialias=True)
        for picture, box in zip(pictures, boxes(), strict=True)
    ]
    torch.testing.assert_close(crop_resize(pictures, boxes(), size=size), torch.stack(expected), atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [16, 64])
def test_crop_resize__is_within_rounding_of_torchvision_on_bytes(size: int) -> None:
    pictures = images().mul(255).byte()
    expected = [
        tv.resized_crop(picture, *box.tolist(), size=[size, size], antialias=True)
        for picture, box in zip(pictures, boxes(), strict=True)
    ]
    difference = crop_resize(pictures.float(), boxes(), size=size).round() - torch.stack(expected)
    assert difference.abs().max() <= 1.0


@pytest.mark.parametrize("size", [9, 60])
def test_resize_weights__flip_is_a_mirrored_result(size: int) -> None:
    start, length = torch.tensor([3.0, 3.0]), torch.tensor([20.0, 20.0])
    plain, flipped = resize_weights(start, length, input_size=52, size=size, flips=torch.tensor([False, True]))
    torch.testing.assert_close(flipped, plain.flip(0), atol=1e-6, rtol=0)
    torch.testing.assert_close(plain.sum(dim=1), torch.ones(size))
    assert (plain[:, :3] == 0).all()
    assert (plain[:, 23:] == 0).all()


def test_hflip__mirrors_the_chosen() -> None:
    pictures = images(2)
    mirrored = hflip(pictures, torch.tensor([True, False]))
    assert torch.equal(mirrored[0], tv.horizontal_flip(pictures[0]))
    assert torch.equal(mirrored[1], pictures[1])


@pytest.mark.parametrize("kernel_size", [3, 9, 23])
@pytest.mark.parametrize("channels", [1, 3])
def test_gaussian_blur__matches_torchvision(kernel_size: int, channels: int) -> None:
    pictures, sigma = images(8, channels=channels), torch.linspace(0.1, 2.0, 8)
    expected = [
        tv.gaussian_blur(picture, [kernel_size, kernel_size], [value])
        for picture, value in zip(pictures, sigma.tolist(), strict=True)
    ]
    blurred = gaussian_blur(pictures, sigma, kernel_size=kernel_size)
    torch.testing.assert_close(blurred, torch.stack(expected), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kernel_size", [4, 81])
def test_gaussian_blur__refuses_a_kernel_that_does_not_fit(kernel_size: int) -> None:
    with pytest.raises(ValueError, match=f"not {kernel_size}"):
        gaussian_blur(images(1), torch.ones(1), kernel_size=kernel_size)


def test_blur_matrices__is_the_blur_where_applied() -> None:
    pictures, sigma = images(2, height=32, width=32), torch.tensor([1.3, 1.3])
    band = blur_matrices(sigma, applied=torch.tensor([True, False]), kernel_size=5, size=32)
    blurred = band[:, None] @ pictures @ band[:, None].transpose(2, 3)
    torch.testing.assert_close(blurred[0], gaussian_blur(pictures, sigma, kernel_size=5)[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(blurred[1], pictures[1])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(28, 28), (40, 52)])
def test_affine__matches_torchvision(channels: int, height: int, width: int) -> None:
    pictures = images(16, channels=channels, height=height, width=width)
    draws = torch.rand(5, 16, generator=torch.Generator().manual_seed(2)) * 2 - 1
    angle, shear, scale = draws[0] * 180, draws[1] * 30, 1 + draws[2] * 0.5
    translate = (draws[3:].T * 6).round()
    expected = [
        tv.affine(
            picture,
            angle=angle[row].item(),
            translate=translate[row].tolist(),
            scale=scale[row].item(),
            shear=[shear[row].item(), 0.0],
            interpolation=InterpolationMode.BILINEAR,
        )
        for row, picture in enumerate(pictures)
    ]
    moved = affine(pictures, angle=angle, translate=translate, scale=scale, shear=shear)
    torch.testing.assert_close(moved, torch.stack(expected), atol=2e-4, rtol=0)


def test_affine__identity_changes_nothing() -> None:
    pictures, zero = images(3), torch.zeros(3)
    still = affine(pictures, angle=zero, translate=torch.zeros(3, 2), scale=torch.ones(3), shear=zero)
    torch.testing.assert_close(still, pictures, atol=1e-5, rtol=0)
