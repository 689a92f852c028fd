"""Pictures as a program has them, in memory or on disk, made as those of the training. The API reaches this module."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from contrastive_cli.core.errors import DataError
from contrastive_cli.data.opened_pictures import COLORS, array_square, opened_square
from contrastive_cli.data.squares import Square
from contrastive_cli.engine.device import images_per_pass
from contrastive_cli.services.inference.image_files import FILES_AT_ONCE, decode_all
from contrastive_cli.services.inference.model import Model

Picture: TypeAlias = "str | os.PathLike[str] | Image.Image | NDArray[np.uint8]"
"""A file's path, a PIL image, or an array [H, W, C] or [H, W] of uint8."""

Pictures: TypeAlias = "Picture | Iterable[Picture] | NDArray[Any] | Tensor"
"""One picture, several, an array [N, H, W, C] of uint8, or a tensor [N, C, H, W]."""

Listed: TypeAlias = "Sequence[Picture] | NDArray[np.uint8]"
"""Single pictures in order, or the array of all."""


def listed_pictures(pictures: Pictures) -> Listed:
    """The single pictures, in order; an array [N, H, W, C] or a uint8 tensor [N, C, H, W] stays one, to be cut.

    Raises:
        DataError: If there are none, or they are nothing that can be a picture.
    """
    if isinstance(pictures, Tensor):
        pictures = _of_tensor(pictures)
    if isinstance(pictures, str | os.PathLike | Image.Image):
        return [pictures]
    if isinstance(pictures, np.ndarray) and pictures.dtype.kind not in "OUS":
        return _of_array(pictures)
    if not isinstance(pictures, Iterable):
        raise DataError(f"no pictures: a {type(pictures).__name__}", hint="give paths, PIL images or arrays")
    found: list[Any] = [str(one) if isinstance(one, np.str_) else one for one in pictures]
    if not found:
        raise DataError("no images were given")
    return found


def pixel_pieces(model: Model, pictures: Listed, *, at_once: int) -> Iterator[NDArray[np.uint8]]:
    """Pictures as uint8 [n, C, S, S], about `at_once` at a time, cut where the commands cut what they embed.

    So many go through the network together in each pass as in `clr embed`, and so the numbers are the same to the bit.

    Raises:
        DataError: If one cannot be read; each is needed.
    """
    whole = isinstance(pictures, np.ndarray)  # a split has no border of files
    each = images_per_pass(model.device, model.manifest.size)
    step = -(-at_once // each) * each
    outer = len(pictures) if whole else FILES_AT_ONCE
    for first in range(0, len(pictures), outer):
        last = min(first + outer, len(pictures))
        for start in range(first, last, step):
            yield decoded(model, pictures[start : min(start + step, last)])


def decoded(model: Model, pictures: Listed) -> NDArray[np.uint8]:
    """uint8 [N, C, S, S] of the size at which the run's own pictures were decoded.

    Raises:
        DataError: If one cannot be read.
    """
    if all(isinstance(picture, str | os.PathLike) for picture in pictures):
        paths = [Path(picture) for picture in pictures]  # type: ignore[arg-type]
        for path in paths:
            if path.is_dir():
                raise DataError(f"{path} is a folder", hint="list its files, or use `clr embed FOLDER`", path=path)
        pixels, _, bad = decode_all(model, paths)
        if bad:
            raise bad[0]
        return pixels
    return np.stack([_square(model, picture) for picture in pictures])


def _square(model: Model, picture: Any) -> NDArray[np.uint8]:
    manifest = model.manifest
    square = Square(size=manifest.decoded_size, channels=model.channels, framing=manifest.decoded_framing)
    if isinstance(picture, str | os.PathLike):
        pixels: NDArray[np.uint8] = decoded(model, [picture])[0]
        return pixels
    if isinstance(picture, Image.Image):
        if manifest.bands is not None:
            raise DataError("this run takes chosen bands of its pictures", hint="give paths, or arrays of the bands")
        if 0 in picture.size:
            raise DataError(f"a picture of {picture.width} x {picture.height} pixels shows nothing")
        ranged = manifest.range is not None
        return opened_square(picture, square, ranged=ranged)
    array = np.asarray(picture)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or 0 in array.shape:
        raise _unusable(array)
    array = array[:, :, None] if array.ndim == 2 else array
    return array_square(array, size=manifest.decoded_size, channels=model.channels, framing=square.framing)


def _of_array(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """[N, H, W, C] of one picture or several; a gray [H, W] and an [H, W, C] are one."""
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim == 3:
        pixels = pixels[None]
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or 0 in pixels.shape:
        raise _unusable(pixels)
    return pixels


def _of_tensor(images: Tensor) -> NDArray[Any]:
    """uint8 [N, C, H, W] or [C, H, W] -> [N, H, W, C]."""
    if images.ndim not in (3, 4):
        raise DataError(f"a tensor must be uint8 [N, C, H, W], not {images.dtype} {list(images.shape)}")
    pixels: NDArray[Any] = np.moveaxis(images.detach().cpu().numpy(), -3, -1)
    return pixels


def _unusable(pixels: NDArray[Any]) -> DataError:
    hint = f"uint8 [N, H, W, C] with C of {', '.join(map(str, COLORS))}, or what `encoder.preprocess` returns"
    return DataError(f"an array of {pixels.dtype} {list(pixels.shape)} is no pictures", hint=hint)
