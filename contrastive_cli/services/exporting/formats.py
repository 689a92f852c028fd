"""The formats by name: what each of them writes, and how the library that it is for reads it again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.config import did_you_mean
from contrastive_cli.core.errors import UsageError
from contrastive_cli.services.exporting import (
    onnx_graph,
    plain_module,
    timm_folder,
    torch_program,
    torchvision_state,
)
from contrastive_cli.services.exporting.source import Pictures, Source


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """A way out.

    Attributes:
        write: Writes the files into an empty folder; raises UsageError for an encoder that the format cannot hold.
        embed: Loads the folder anew by the library that it is for, and embeds the pictures: float32 [N, D].
        library: The name and version of that library.
        usage: Lines of Python that load and use it, for the model card.
        bakes: Whether pictures can be prepared by what is exported.
    """

    write: Callable[[Source, Path], None]
    embed: Callable[[Path, Pictures], NDArray[np.float32]]
    library: Callable[[], str]
    usage: Callable[[Source], str]
    bakes: bool = False


FORMATS = {
    "safetensors": Format(
        write=plain_module.write, embed=plain_module.embed, library=plain_module.library, usage=plain_module.usage
    ),
    "timm": Format(
        write=timm_folder.write, embed=timm_folder.embed, library=timm_folder.library, usage=timm_folder.usage
    ),
    "torchvision": Format(
        write=torchvision_state.write,
        embed=torchvision_state.embed,
        library=torchvision_state.library,
        usage=torchvision_state.usage,
    ),
    "onnx": Format(
        write=onnx_graph.write,
        embed=onnx_graph.embed,
        library=onnx_graph.library,
        usage=onnx_graph.usage,
        bakes=True,
    ),
    "pt2": Format(
        write=torch_program.write,
        embed=torch_program.embed,
        library=torch_program.library,
        usage=torch_program.usage,
        bakes=True,
    ),
}


def find_format(name: str, *, baked: bool) -> Format:
    """The format of that name.

    Raises:
        UsageError: If there is none, or it cannot prepare pictures and that is asked of it.
    """
    if name not in FORMATS:
        raise UsageError(f"no format named {name!r}{did_you_mean(name, FORMATS)}")
    if baked and not FORMATS[name].bakes:
        able = " or ".join(key for key, value in FORMATS.items() if value.bakes)
        raise UsageError(f"--bake-preprocessing is for {able}: {name} holds weights alone")
    return FORMATS[name]
