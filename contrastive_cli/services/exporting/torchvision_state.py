"""`torchvision`: a state dict that its resnet18, resnet34 or resnet50 loads, without the classifier."""

from __future__ import annotations

import io
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.files import write_atomically
from contrastive_cli.models.resnet import RESNETS
from contrastive_cli.services.exporting.descriptions import prepared, write_description
from contrastive_cli.services.exporting.plain_module import refuse_more_than_encoder
from contrastive_cli.services.exporting.source import Pictures, Source


def write(source: Source, folder: Path) -> None:
    """Write `NAME.pth` and `config.json`.

    Raises:
        UsageError: If the encoder is none of torchvision's architectures.
    """
    refuse_more_than_encoder(source, "torchvision")
    refuse_other_stem(source, "torchvision")
    if source.encoder not in RESNETS or source.channels != 3:
        what = source.encoder if source.encoder not in RESNETS else f"{source.encoder} of {source.channels} channels"
        raise UsageError(
            f"torchvision has no {what}", hint=f"it takes {', '.join(RESNETS)} of three channels; use another --format"
        )
    buffer = io.BytesIO()
    torch.save({name: tensor.contiguous() for name, tensor in source.module.state_dict().items()}, buffer)
    write_atomically(folder / f"{source.encoder}.pth", buffer.getvalue())
    write_description(source, folder)


def refuse_other_stem(source: Source, name: str) -> None:
    """Ask that a ResNet begins as others know it.

    Raises:
        UsageError: If it has the stem for small images.
    """
    if source.encoder in RESNETS and not isinstance(source.module.maxpool, nn.MaxPool2d):
        raise UsageError(
            f"{source.encoder} of {source.model.run.name} begins with the 3x3 stem for small images, unlike {name}'s",
            hint="use --format safetensors, onnx or pt2, or train with --set encoder.stem=imagenet",
        )


def embed(folder: Path, pictures: Pictures) -> NDArray[np.float32]:
    """By torchvision's own network."""
    from torchvision import models

    (file,) = folder.glob("*.pth")
    net: Any = getattr(models, file.stem)()
    net.fc = nn.Identity()
    net.load_state_dict(torch.load(file, weights_only=True))
    with torch.no_grad():
        found: torch.Tensor = net.eval()(prepared(folder, pictures.squares))
    return found.numpy()


def library() -> str:
    """What reads it."""
    return f"torchvision {metadata.version('torchvision')}"


def usage(source: Source) -> str:
    """Lines of Python, run in the folder."""
    size, said = source.size, source.preprocessing
    return f"""\
import torch
from PIL import Image
from torchvision import models, transforms

net = models.{source.encoder}()
net.fc = torch.nn.Identity()
net.load_state_dict(torch.load("{source.encoder}.pth", weights_only=True))
transform = transforms.Compose([
    transforms.Resize({said["resize"]}, transforms.InterpolationMode.{said["interpolation"].upper()}),
    transforms.CenterCrop({size}),
    transforms.ToTensor(),
    transforms.Normalize({said["mean"]}, {said["std"]}),
])
with torch.no_grad():
    h = net.eval()(transform(Image.open("photo.jpg").convert("RGB"))[None])  # [1, {source.embedding_dim}]"""
