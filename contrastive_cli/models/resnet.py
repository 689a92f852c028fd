"""ResNets (He et al., arXiv:1512.03385) with torchvision's layer names, so that its weights and older runs fit.

They are our own because torchvision takes as long to import as torch, or longer, and every command would wait for it.
"""

from __future__ import annotations

from typing import ClassVar, Literal, TypeAlias

from torch import Tensor, nn

from contrastive_cli.models.encoder import Encoder

Stem: TypeAlias = Literal["small", "small-padded", "small-linear", "imagenet"]
_STEMS = {  # kernel, stride, padding
    "small": (3, 1, 1),
    "small-padded": (3, 1, 2),
    "small-linear": (3, 1, 1),
    "imagenet": (7, 2, 3),
}


class ResNet(Encoder):
    """A ResNet of 18, 34 or 50 layers without its classifier; as torchvision's in numbers and initialization.

    Args:
        name: resnet18, resnet34 or resnet50.
        channels: Channels of the image.
        stem: small is a 3x3 convolution without max-pool (SimCLR, App. B.9), imagenet 7x7 with stride 2 and one;
            small-padded sees two pixels of zeros around the image, as solo-learn's; small-linear has no ReLU, as
            lightly's generator of ResNets when its layers are put into a row.
    """

    def __init__(self, name: str, *, channels: int, stem: Stem) -> None:
        super().__init__()
        block, depths = _SHAPES[name]
        kernel, stride, padding = _STEMS[stem]
        self.conv1 = nn.Conv2d(channels, 64, kernel, stride=stride, padding=padding, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.Identity() if stem == "small-linear" else nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if stem == "imagenet" else nn.Identity()
        self.layer1 = _stage(block, 64, 64, depth=depths[0], stride=1)
        self.layer2 = _stage(block, 64 * block.expansion, 128, depth=depths[1], stride=2)
        self.layer3 = _stage(block, 128 * block.expansion, 256, depth=depths[2], stride=2)
        self.layer4 = _stage(block, 256 * block.expansion, 512, depth=depths[3], stride=2)
        self.embedding_dim = 512 * block.expansion
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, 512], or [B, 2048] of resnet50."""
        features: Tensor = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        features = self.layer4(self.layer3(self.layer2(self.layer1(features))))
        return features.mean(dim=(2, 3))


class _Block(nn.Module):
    """Two 3x3 convolutions beside the identity."""

    expansion: ClassVar[int] = 1

    def __init__(self, inputs: int, width: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = _convolution(inputs, width, 3, stride=stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _convolution(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride=stride)

    def forward(self, features: Tensor) -> Tensor:
        update = self.relu(self.bn1(self.conv1(features)))
        update = self.bn2(self.conv2(update))
        update += self.downsample(features)
        result: Tensor = self.relu(update)
        return result


class _Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside the identity; the 3x3 has the stride, as in torchvision."""

    expansion: ClassVar[int] = 4

    def __init__(self, inputs: int, width: int, *, stride: int) -> None:
        super().__init__()
        outputs = self.expansion * width
        self.conv1 = _convolution(inputs, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _convolution(width, width, 3, stride=stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _convolution(width, outputs, 1)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inputs, outputs, stride=stride)

    def forward(self, features: Tensor) -> Tensor:
        update = self.relu(self.bn1(self.conv1(features)))
        update = self.relu(self.bn2(self.conv2(update)))
        update = self.bn3(self.conv3(update))
        update += self.downsample(features)
        result: Tensor = self.relu(update)
        return result


def _stage(block: type[_Block | _Bottleneck], inputs: int, width: int, *, depth: int, stride: int) -> nn.Sequential:
    first = block(inputs, width, stride=stride)
    return nn.Sequential(first, *(block(block.expansion * width, width, stride=1) for _ in range(depth - 1)))


def _convolution(inputs: int, outputs: int, kernel: int, *, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)


def _shortcut(inputs: int, outputs: int, *, stride: int) -> nn.Sequential:
    if stride == 1 and inputs == outputs:
        return nn.Sequential()
    return nn.Sequential(_convolution(inputs, outputs, 1, stride=stride), nn.BatchNorm2d(outputs))


_SHAPES: dict[str, tuple[type[_Block | _Bottleneck], tuple[int, int, int, int]]] = {
    "resnet18": (_Block, (2, 2, 2, 2)),
    "resnet34": (_Block, (3, 4, 6, 3)),
    "resnet50": (_Bottleneck, (3, 4, 6, 3)),
}
RESNETS = tuple(_SHAPES)
