"""`onnx`: the graph, for onnxruntime and others, with an open batch; pictures are prepared in it or beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from contrastive_cli.core.errors import ExportError, UsageError
from contrastive_cli.core.files import write_atomically
from contrastive_cli.services.exporting.descriptions import describe, write_description
from contrastive_cli.services.exporting.plain_module import mode_of
from contrastive_cli.services.exporting.source import Pictures, Source
from contrastive_cli.services.exporting.torch_program import IMAGES, PIXELS, given, input_of, quiet, traced

FILE = "model.onnx"
OUTPUT = "embedding"
LARGEST = 2**31 - 1  # of a file of protobuf
PICTURES_AT_ONCE = 16


def write(source: Source, folder: Path) -> None:
    """Write `model.onnx`, with what it is in its metadata, and `config.json`.

    Raises:
        UsageError: If onnx, onnxscript or onnxruntime is not installed.
        ExportError: If the network holds what ONNX has no operator for, or is too large.
    """
    _onnxruntime()
    module, example, shapes = traced(source)
    name = PIXELS if source.baked else IMAGES
    with quiet():
        try:
            program: Any = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                verbose=False,
                input_names=[name],
                output_names=[OUTPUT],
                dynamic_shapes=(shapes,),
            )
        except torch.onnx.OnnxExporterError as error:
            reason = " ".join(str(error).split())[:200]
            raise ExportError(f"torch cannot turn {source.encoder} into ONNX: {reason}", hint="use pt2") from error
    program.model.metadata_props.update({"clr": json.dumps(describe(source)), "input": input_of(source)})
    content: bytes = program.model_proto.SerializeToString()
    if len(content) > LARGEST:
        raise ExportError(f"the graph has {len(content) / 1e9:.1f} GB, and ONNX holds 2 in a file", hint="use pt2")
    write_atomically(folder / FILE, content)
    write_description(source, folder, input=input_of(source))


def embed(folder: Path, pictures: Pictures) -> NDArray[np.float32]:
    """By onnxruntime on the CPU."""
    runtime = _onnxruntime()
    session = runtime.InferenceSession(str(folder / FILE), providers=["CPUExecutionProvider"])
    (taken,) = session.get_inputs()
    images = given(folder, pictures).numpy()
    parts = [
        session.run([OUTPUT], {taken.name: images[start : start + PICTURES_AT_ONCE]})[0]
        for start in range(0, len(images), PICTURES_AT_ONCE)
    ]
    return np.concatenate(parts)


def _onnxruntime() -> Any:
    try:
        import onnx
        import onnxruntime
        import onnxscript
    except ImportError as error:
        hint = "pip install 'contrastive-cli[onnx]'"
        raise UsageError(f"the format onnx needs its extra ({error.name} is missing)", hint=hint) from None
    del onnx, onnxscript
    return onnxruntime


def library() -> str:
    """What reads it."""
    return f"onnxruntime {_onnxruntime().__version__}"


def usage(source: Source) -> str:
    """Lines of Python, run in the folder."""
    if source.baked:
        third = "[:, :, None]" if source.channels == 1 else ""
        return f"""\
import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession("model.onnx")
pixels = np.array(Image.open("photo.jpg").convert({mode_of(source)!r})){third}
(h,) = session.run(None, {{"{PIXELS}": pixels[None]}})  # [1, {source.embedding_dim}]"""
    said = source.preprocessing
    return f"""\
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
mean, std = np.array({said["mean"]}, np.float32), np.array({said["std"]}, np.float32)
pixels = ...  # uint8 [N, {source.size}, {source.size}, {source.channels}]
images = ((pixels / 255 - mean) / std).transpose(0, 3, 1, 2)
(h,) = session.run(None, {{"{IMAGES}": images.astype(np.float32)}})  # [N, {source.embedding_dim}]"""
