"""Encoders: an image in, an embedding `h` [B, D] out. Each module has the attribute `embedding_dim`.

`resnet9` is the small encoder for CPUs, after the nets of the CIFAR-10 speed runs; the others are ResNets and timm's
models, with the stem that fits the image size (a 3x3 convolution without max-pooling up to 64 px: SimCLR, App. B.9).
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from contrastive_cli.core.config import Config, did_you_mean
from contrastive_cli.core.errors import DataError, UsageError
from contrastive_cli.models.encoder import Encoder
from contrastive_cli.models.resnet import RESNETS, ResNet, Stem
from contrastive_cli.models.timm_encoders import PREFIX, timm_encoder

SMALL_IMAGE = 64
ENCODERS = ("resnet9", *RESNETS)


class EncoderConfig(Config):
    """Which encoder, and its shape.

    Attributes:
        name: resnet9, resnet18, resnet34, resnet50 or timm/NAME; auto takes resnet9 on a CPU, else resnet18. It reads
            none in the configuration of a method without an encoder.
        width: Channels of the first layer of resnet9.
        embedding_dim: Width of the embedding of resnet9, made by a last 1x1 convolution; None leaves it at 8 x width.
        init: What the convolutions of resnet9 begin with: random, or identity, where each 3x3 convolution but the first
            hands on its input in as many channels, and is random in the others.
        stem: small (3x3, stride 1), imagenet (7x7, stride 2, max-pool), or auto by image size or weights; small-padded
            and small-linear are those of solo-learn and lightly. Not for resnet9.
        patch_size: Side of the patches of timm's ViTs in pixels; None leaves the model's own.
        weights: What training begins with: a name of torchvision's weights, such as IMAGENET1K_V1, "pretrained" or a
            tag for timm, a file, a folder, or another run; None for fresh ones.
    """

    name: str = "auto"
    width: int = Field(16, gt=0, le=1024)
    embedding_dim: int | None = Field(512, gt=0, le=65536)
    init: Literal["random", "identity"] = "random"
    stem: Literal["auto", "small", "small-padded", "small-linear", "imagenet"] = "auto"
    patch_size: int | None = Field(None, ge=1, le=64)
    weights: str | None = None


def build_encoder(config: EncoderConfig, *, channels: int, size: int) -> Encoder:
    """Build the encoder for images [B, channels, size, size], with its weights where it has any.

    Raises:
        UsageError: If there is no such encoder or no such weights.
        DataError: If the weights cannot be had, or are not all of the encoder.
    """
    if config.weights is None:
        return build_fresh(config, channels=channels, size=size)
    from contrastive_cli.models.weights.loading import load_encoder

    return load_encoder(config, channels=channels, size=size)[0]


def build_fresh(config: EncoderConfig, *, channels: int, size: int) -> Encoder:
    """Build the encoder with weights drawn from torch's generator, whatever weights its configuration names.

    Raises:
        UsageError: If there is no such encoder.
    """
    refuse_unknown_encoder(config.name)
    if config.name == "resnet9":
        net = ResNet9(channels=channels, width=config.width, embedding_dim=config.embedding_dim)
        if config.init == "identity":
            begin_as_identity(net)
        return net
    if config.name in RESNETS:
        return ResNet(config.name, channels=channels, stem=_stem(config, size=size))
    return _timm_encoder(config, channels=channels, size=size, weights=None)


def published_encoder(config: EncoderConfig, *, channels: int, size: int) -> Encoder:
    """Build the encoder with the weights that torchvision or timm publish under a name.

    Raises:
        UsageError: If there are no such weights.
        DataError: If they cannot be fetched.
    """
    assert config.weights is not None, "there are weights"
    if config.name.startswith(PREFIX):
        return _timm_encoder(config, channels=channels, size=size, weights=config.weights)
    return _torchvision_encoder(config, channels=channels, size=size, weights=config.weights)


def refuse_unknown_encoder(name: str) -> None:
    """Ask that there is an encoder of that name; timm is asked when it is built.

    Raises:
        UsageError: If there is none.
    """
    if name not in ENCODERS and not name.startswith(PREFIX):
        raise UsageError(f"no encoder named {name!r}{did_you_mean(name, [*ENCODERS, 'timm/NAME'])}")


def refuse_unused_fields(config: EncoderConfig) -> None:
    """Ask that every field which is not as it is by itself says something of this encoder.

    Raises:
        UsageError: If one does not.
    """
    others = {
        "width": (config.name == "resnet9", "resnet9"),
        "embedding_dim": (config.name == "resnet9", "resnet9"),
        "init": (config.name == "resnet9", "resnet9"),
        "stem": (config.name in RESNETS, "ResNets"),
        "patch_size": (config.name.startswith(PREFIX), "timm's ViTs"),
    }
    for field, (used, whose) in others.items():
        value = getattr(config, field)
        if not used and value != EncoderConfig.model_fields[field].default:
            raise UsageError(f"encoder.{field} is for {whose}, not for {config.name} (given: {value})")


def _stem(config: EncoderConfig, *, size: int) -> Stem:
    if config.stem != "auto":
        return config.stem
    return "small" if size <= SMALL_IMAGE else "imagenet"


def _timm_encoder(config: EncoderConfig, *, channels: int, size: int, weights: str | None) -> Encoder:
    name = config.name.removeprefix(PREFIX)
    return timm_encoder(name, channels=channels, size=size, patch_size=config.patch_size, weights=weights)


def automatic_encoder(device_type: str, size: int) -> str:
    """The encoder that `auto` stands for: one that ends in minutes on a CPU."""
    return "resnet9" if device_type == "cpu" and size <= 2 * SMALL_IMAGE else "resnet18"


def check_view_size(encoder: Encoder, *, name: str, channels: int, size: int) -> None:
    """Ask for the embedding of a view of `size` pixels, where that is not the size that the encoder was built for.

    Raises:
        UsageError: If the encoder has none of such a view; some ViTs do not.
    """
    encoder.eval()
    try:
        with torch.no_grad():
            encoder(next(encoder.parameters()).new_zeros(1, channels, size, size))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise UsageError(
            f"encoder {name} takes no views of {size} px: {_one_line(error)}",
            hint="leave dataset.view_size out, or take another encoder",
        ) from None
    encoder.train()


class ResNet9(Encoder):
    """Nine convolutions with two residual blocks; early pooling keeps it cheap where memory is the limit.

    Args:
        channels: Channels of the image.
        width: Channels of the first convolution.
        embedding_dim: Width of a last 1x1 convolution before the mean over positions; None for none.
    """

    def __init__(self, *, channels: int, width: int, embedding_dim: int | None) -> None:
        super().__init__()
        top = 8 * width
        layers: list[nn.Module] = [
            _convolution(channels, width),
            _convolution(width, 2 * width, relu=False),
            _pool(),
            _Residual(2 * width),
            _convolution(2 * width, 4 * width, relu=False),
            _pool(),
            _convolution(4 * width, top, relu=False),
            _pool(),
            _Residual(top),
        ]
        if embedding_dim is not None:
            layers.append(_convolution(top, embedding_dim, kernel=1))
        self.layers = nn.Sequential(*layers)
        self.embedding_dim = embedding_dim or top

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, D]."""
        features: Tensor = self.layers(images)
        return features.mean(dim=(2, 3))


@torch.no_grad()
def begin_as_identity(net: ResNet9) -> None:
    """Let every 3x3 convolution but the first hand on its input in its first output channels, in place.

    The other output channels stay random. DiracNets (Zagoruyko and Komodakis, arXiv:1706.00388) keep the identity all
    through the training; here it is a beginning, as in the CIFAR-10 speed runs of Jordan (arXiv:2404.00498).
    """
    convolutions = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3)]
    for convolution in convolutions[1:]:
        nn.init.dirac_(convolution.weight[: convolution.in_channels])


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.block = nn.Sequential(_convolution(width, width), _convolution(width, width))

    def forward(self, features: Tensor) -> Tensor:
        update: Tensor = self.block(features)
        return features + update


def _convolution(inputs: int, outputs: int, *, kernel: int = 3, relu: bool = True) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), *([nn.ReLU(inplace=True)] if relu else []))


def _pool() -> nn.Sequential:
    # The same numbers and gradients as ReLU before the maximum, at a quarter of the work.
    return nn.Sequential(nn.MaxPool2d(2), nn.ReLU(inplace=True))


def _torchvision_encoder(config: EncoderConfig, *, channels: int, size: int, weights: str) -> Encoder:
    from contrastive_cli.models.weights.reshaping import for_channels

    stem = _stem(config, size=size)
    net = ResNet(config.name, channels=channels, stem=stem)
    given = _torchvision_weights(config.name, weights)
    if stem != "imagenet":  # there are none of this stem
        del given["conv1.weight"]
    elif channels != 3:
        given["conv1.weight"] = for_channels(given["conv1.weight"], channels)
    net.load_state_dict(net.state_dict() | given)
    return net


def _torchvision_weights(name: str, weights: str) -> dict[str, Tensor]:
    """Those of the classifier left out."""
    from torchvision import models

    try:
        state: dict[str, Tensor] = models.get_model_weights(name)[weights].get_state_dict(
            progress=True, check_hash=True
        )
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"the weights {weights} of {name} cannot be fetched: {_one_line(error)}",
            hint="give them by a file: --weights FILE",
        ) from error
    return {key: value for key, value in state.items() if not key.startswith("fc.")}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
