"""`timm`: a folder that `timm.create_model("local-dir:DIR", pretrained=True, num_classes=0)` opens."""

from __future__ import annotations

import math
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.files import write_atomically, write_json
from contrastive_cli.models.resnet import RESNETS
from contrastive_cli.services.exporting.plain_module import mode_of, refuse_more_than_encoder
from contrastive_cli.services.exporting.source import Pictures, Source
from contrastive_cli.services.exporting.torchvision_state import refuse_other_stem
from contrastive_cli.views.augment import to_input

PREFIX = "timm/"


def write(source: Source, folder: Path) -> None:
    """Write `model.safetensors` and `config.json` as timm does.

    Raises:
        UsageError: If timm is not installed, or has no such network.
    """
    refuse_more_than_encoder(source, "timm")
    refuse_other_stem(source, "timm")
    if source.encoder not in RESNETS and not source.encoder.startswith(PREFIX):
        raise UsageError(f"timm has no {source.encoder}", hint="use --format safetensors, onnx or pt2")
    name = source.encoder.removeprefix(PREFIX).partition(".")[0]
    net, arguments = _network(name, source)
    net.load_state_dict(source.module.state_dict())
    from safetensors.torch import save

    state = {key: tensor.contiguous() for key, tensor in net.state_dict().items()}
    write_atomically(folder / "model.safetensors", save(state))
    known, said = net.pretrained_cfg, source.preprocessing
    write_json(
        folder / "config.json",
        {
            "architecture": name,
            "num_classes": 0,
            "num_features": source.embedding_dim,
            "model_args": arguments,
            "pretrained_cfg": {
                "input_size": [source.channels, source.size, source.size],
                "fixed_input_size": bool(known.get("fixed_input_size")),
                "interpolation": said["interpolation"],
                "crop_pct": crop_fraction(source.size, said["resize"]),
                "crop_mode": "squash" if said["rule"] == "squash" else "center",
                "mean": said["mean"],
                "std": said["std"],
                "num_classes": 0,
                "first_conv": known.get("first_conv") if source.channels in (1, 3) else None,
                "classifier": known.get("classifier"),
            },
        },
    )


def _network(name: str, source: Source) -> tuple[Any, dict[str, Any]]:
    """The network of timm without weights, and the arguments beside its name that make it."""
    timm = _timm()
    arguments: dict[str, Any] = {} if source.channels == 3 else {"in_chans": source.channels}
    try:
        net = timm.create_model(name, num_classes=0, **arguments, img_size=source.size)
    except TypeError:  # convolutional nets take any size and refuse the argument
        return timm.create_model(name, num_classes=0, **arguments), arguments
    return net, {**arguments, "img_size": source.size}


def crop_fraction(size: int, resize: int) -> float:
    """The part of the side that is seen, from which timm comes to this very `resize` by rounding down."""
    fraction = size / resize
    while math.floor(size / fraction) < resize:
        fraction = math.nextafter(fraction, 0)
    return fraction


def embed(folder: Path, pictures: Pictures) -> NDArray[np.float32]:
    """By timm's own network; colors and gray come through its own transform too."""
    timm = _timm()
    net = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
    config = timm.data.resolve_model_data_config(net)
    if pictures.raw.shape[3] in (1, 3) and pictures.squares.shape[2] == config["input_size"][1]:
        transform = timm.data.create_transform(**config, is_training=False)
        images = torch.stack(
            [
                transform(Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture))
                for picture in pictures.raw
            ]
        )
    else:
        squares = torch.from_numpy(pictures.squares)
        images = to_input(squares, size=config["input_size"][1], mean=config["mean"], std=config["std"])
    with torch.no_grad():
        found: torch.Tensor = net(images)
    return found.numpy()


def _timm() -> Any:
    try:
        import timm
        import timm.data
    except ImportError:
        raise UsageError("timm is needed", hint="pip install 'contrastive-cli[timm]'") from None
    return timm


def library() -> str:
    """What reads it."""
    return f"timm {metadata.version('timm')}"


def usage(source: Source) -> str:
    """Lines of Python, run beside the folder."""
    mode = mode_of(source)
    return f"""\
import timm
import torch
from PIL import Image

net = timm.create_model("local-dir:DIR", pretrained=True, num_classes=0).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(net))
with torch.no_grad():
    h = net(transform(Image.open("photo.jpg").convert({mode!r}))[None])  # [1, {source.embedding_dim}]"""
