"""`safetensors`: the weights, and a file of Python that needs PyTorch only, for the encoders of this package."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.files import write_atomically
from contrastive_cli.core.framing import Framing
from contrastive_cli.models import encoders, resnet
from contrastive_cli.services.exporting.descriptions import write_description
from contrastive_cli.services.exporting.source import Pictures, Source

WEIGHTS, CODE = "model.safetensors", "model.py"
PARTS_OF_RESNET9 = ("ResNet9", "_Residual", "_convolution", "_pool")

HEAD = '''"""An encoder that was trained with clr; this file needs PyTorch only.

    from model import load, prepare

    encoder = load()
    h = encoder(prepare(pixels))  # uint8 [N, C, S, S] -> float32 [N, D]
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Encoder = nn.Module
HERE = Path(__file__).resolve().parent
CONFIG = json.loads((HERE / "config.json").read_text())
DTYPES = {"F32": torch.float32, "I64": torch.int64}


def load() -> nn.Module:
    """The encoder with its weights, in evaluation mode: [N, C, S, S] as `prepare` returns it -> [N, D]."""
    encoder = build(**CONFIG["architecture"])
    encoder.load_state_dict(read_safetensors(HERE / "model.safetensors"))
    return encoder.eval()


def prepare(pixels: Tensor) -> Tensor:
    """Square pictures uint8 [N, C, S, S] -> float32, resized and normalized."""
    said = CONFIG["preprocessing"]
    side = (said["size"], said["size"])
    images = pixels.float()
    if images.shape[2:] != side:
        images = F.interpolate(images, size=side, mode="bilinear", align_corners=False, antialias=True)
    mean, std = (torch.tensor(said[name])[:, None, None] for name in ("mean", "std"))
    return (images / 255 - mean) / std


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file: eight bytes of length, a header in JSON, numbers."""
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    tensors = {}
    for name, facts in json.loads(content[8:start]).items():
        if name != "__metadata__":
            first, last = facts["data_offsets"]
            part = content[start + first : start + last]
            tensors[name] = torch.frombuffer(part, dtype=DTYPES[facts["dtype"]]).reshape(facts["shape"])
    return tensors


'''


def write(source: Source, folder: Path) -> None:
    """Write the weights, `config.json` and `model.py`.

    Raises:
        UsageError: If the encoder is timm's, or does not embed by itself.
    """
    refuse_more_than_encoder(source, "safetensors")
    code, arguments = architecture(source)
    from safetensors.torch import save

    state = {name: tensor.contiguous() for name, tensor in source.module.state_dict().items()}
    write_atomically(folder / WEIGHTS, save(state))
    write_atomically(folder / CODE, (HEAD + code).encode())
    write_description(source, folder, architecture=arguments)


def refuse_more_than_encoder(source: Source, name: str) -> None:
    """Ask that the embedding is the encoder's own.

    Raises:
        UsageError: If the method has layers after it.
    """
    if not source.by_encoder:
        raise UsageError(
            f"{source.model.manifest.method} embeds by layers after its encoder, for which {name} has no place",
            hint="use --format onnx or pt2",
        )


def architecture(source: Source) -> tuple[str, dict[str, Any]]:
    """The source of the encoder's classes with `build`, and the arguments that it is to be called with.

    Raises:
        UsageError: If it is none of this package's.
    """
    config = source.model.config.encoder
    if source.encoder == "resnet9":
        arguments: dict[str, Any] = {
            "channels": source.channels,
            "width": config.width,
            "embedding_dim": config.embedding_dim,
        }
        return _source_of(encoders, PARTS_OF_RESNET9) + _build("ResNet9"), arguments
    if source.encoder in resnet.RESNETS:
        net = source.module
        assert isinstance(net, resnet.ResNet), "it is one by its name"
        stem = "imagenet" if isinstance(net.maxpool, torch.nn.MaxPool2d) else "small"
        stem += "-padded" if net.conv1.kernel_size == (3, 3) and net.conv1.padding == (2, 2) else ""
        arguments = {"name": source.encoder, "channels": source.channels, "stem": stem}
        return _source_of(resnet, None) + _build("ResNet"), arguments
    raise UsageError(f"{source.encoder} is timm's, and safetensors is for encoders of clr", hint="use --format timm")


def _source_of(module: ModuleType, names: tuple[str, ...] | None) -> str:
    """The definitions of a module of ours by name, or all of them, without its docstring and imports."""
    text = inspect.getsource(module)
    kept = []
    for node in ast.parse(text).body:
        is_named = isinstance(node, ast.ClassDef | ast.FunctionDef) and (names is None or node.name in names)
        is_value = names is None and isinstance(node, ast.Assign | ast.AnnAssign)
        if is_named or is_value:
            kept.append(ast.get_source_segment(text, node) or "")
    return "\n\n\n".join(kept) + "\n\n\n"


def _build(name: str) -> str:
    said = '"""The encoder without weights."""'
    return f"def build(**arguments: Any) -> nn.Module:\n    {said}\n    return {name}(**arguments)\n"


def embed(folder: Path, pictures: Pictures) -> NDArray[np.float32]:
    """By the written `model.py`, which is imported as a stranger would."""
    name = re.sub(r"\W", "_", f"clr_exported_{folder.name}")
    spec = importlib.util.spec_from_file_location(name, folder / CODE)
    assert spec is not None, "it is a Python file"
    assert spec.loader is not None, "it is a Python file"
    module: Any = importlib.util.module_from_spec(spec)
    exec(compile((folder / CODE).read_bytes(), str(folder / CODE), "exec"), module.__dict__)  # no __pycache__ is left
    with torch.no_grad():
        found: torch.Tensor = module.load()(module.prepare(torch.from_numpy(pictures.squares)))
    return found.numpy()


def library() -> str:
    """What reads it."""
    return f"torch {torch.__version__} alone"


def usage(source: Source) -> str:
    """Lines of Python, run in the folder."""
    side = source.model.manifest.decoded_size
    return f"""\
import numpy as np
import torch
from PIL import Image

from model import load, prepare

image = Image.open("photo.jpg").convert({mode_of(source)!r})
{_square_lines(side, source.model.manifest.decoded_framing)}
pixels = torch.from_numpy(np.array(square)).reshape({side}, {side}, {source.channels}).permute(2, 0, 1)
with torch.no_grad():
    h = load()(prepare(pixels[None]))  # [1, {source.embedding_dim}]"""


def _square_lines(side: int, framing: Framing | None) -> str:
    """Lines of Python that make the `square` of an `image` as `data.squares` does."""
    if framing is None:
        return f"""\
shorter = min(image.size)
left, top = (image.width - shorter) // 2, (image.height - shorter) // 2
box = (left, top, left + shorter, top + shorter)
square = image.resize(({side}, {side}), Image.Resampling.BILINEAR, box=box, reducing_gap=3.0)"""
    resize, method = framing.resize, framing.interpolation.upper()
    shape = f"width, height = {resize}, {resize}"
    if framing.rule == "shorter":
        shape = f"""\
longer = int({resize} * max(image.size) / min(image.size))
width, height = ({resize}, longer) if image.width <= image.height else (longer, {resize})"""
    return f"""\
{shape}
left, top = round((width - {side}) / 2), round((height - {side}) / 2)
square = image.resize((width, height), Image.Resampling.{method}).crop((left, top, left + {side}, top + {side}))"""


def mode_of(source: Source) -> str:
    """Pillow's name of pictures with as many channels."""
    return "L" if source.channels == 1 else "RGB"
