"""`pt2`: a program of `torch.export`, which runs without this package and without the classes of the encoder."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from contrastive_cli.core.files import write_atomically
from contrastive_cli.services.exporting.baked import Baked
from contrastive_cli.services.exporting.descriptions import prepared, write_description
from contrastive_cli.services.exporting.plain_module import mode_of
from contrastive_cli.services.exporting.source import Pictures, Source

FILE = "model.pt2"
IMAGES, PIXELS = "images", "pixels"  # the input: prepared pictures, or raw ones


def write(source: Source, folder: Path) -> None:
    """Write `model.pt2` and `config.json`."""
    module, example, shapes = traced(source)
    buffer = io.BytesIO()
    with quiet():
        torch.export.save(torch.export.export(module, (example,), dynamic_shapes=(shapes,)), buffer)
    write_atomically(folder / FILE, buffer.getvalue())
    write_description(source, folder, input=input_of(source))


def traced(source: Source) -> tuple[nn.Module, Tensor, dict[int, Any]]:
    """The module that is to be exported, an input for it, and which of its axes stay open."""
    batch = torch.export.Dim("batch")
    generator = torch.Generator().manual_seed(0)
    if not source.baked:
        example = torch.randn(2, source.channels, source.size, source.size, generator=generator)
        return source.module, example, {0: batch}
    height, width = source.raw_side + 5, source.raw_side + 3
    pixels = torch.randint(256, (2, height, width, source.channels), dtype=torch.uint8, generator=generator)
    return Baked(source).eval(), pixels, {0: batch, 1: torch.export.Dim("height"), 2: torch.export.Dim("width")}


def input_of(source: Source) -> str:
    """What the program takes, for `config.json`."""
    if source.baked:
        return f"uint8 [N, H, W, {source.channels}], raw pixels"
    return f"float32 [N, {source.channels}, {source.size}, {source.size}], normalized"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what the exporters warn of, and log, away from people; what counts is compared afterwards."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def embed(folder: Path, pictures: Pictures) -> NDArray[np.float32]:
    """By the program as it is read from the file."""
    with quiet():
        program: Any = torch.export.load(io.BytesIO((folder / FILE).read_bytes())).module()
        found: Tensor = program(given(folder, pictures))
    return found.numpy()


def given(folder: Path, pictures: Pictures) -> Tensor:
    """The pictures as `config.json` says that they are taken."""
    if '"input": "uint8' in (folder / "config.json").read_text():
        return torch.from_numpy(pictures.raw)
    return prepared(folder, pictures.squares)


def library() -> str:
    """What reads it."""
    return f"torch.export of torch {torch.__version__}"


def usage(source: Source) -> str:
    """Lines of Python, run in the folder."""
    program = 'torch.export.load("model.pt2").module()'
    if source.baked:
        return f"""\
import numpy as np
import torch
from PIL import Image

program = {program}
pixels = np.array(Image.open("photo.jpg").convert({mode_of(source)!r})){_third_axis(source)}
h = program(torch.from_numpy(pixels)[None])  # [1, {source.embedding_dim}]"""
    return f"""\
import torch

program = {program}
h = program(images)  # float32 [N, {source.channels}, {source.size}, {source.size}] -> [N, {source.embedding_dim}]"""


def _third_axis(source: Source) -> str:
    return "[:, :, None]" if source.channels == 1 else ""
