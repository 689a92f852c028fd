from __future__ import annotations

import copy
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models

from contrastive_cli.core.config import build
from contrastive_cli.core.errors import UsageError
from contrastive_cli.models.encoders import (
    EncoderConfig,
    automatic_encoder,
    build_encoder,
    check_view_size,
    refuse_unused_fields,
)
from contrastive_cli.models.heads import build_projector

WIDTHS = {"resnet9": 512, "resnet18": 512, "resnet34": 512, "resnet50": 2048}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [32, 64, 96, 224])
@pytest.mark.parametrize("name", ["resnet9", "resnet18", "resnet50"])
def test_build_encoder__output_shape(name: str, size: int, channels: int) -> None:
    with torch.device("meta"):  # shapes only: the convolutions are not computed
        encoder = build_encoder(EncoderConfig(name=name), channels=channels, size=size).eval()
        embeddings = encoder(torch.zeros(2, channels, size, size))
    assert embeddings.shape == (2, WIDTHS[name])
    assert encoder.embedding_dim == WIDTHS[name]


@pytest.mark.parametrize("name", ["resnet9", "resnet18"])
def test_build_encoder__images_do_not_see_each_other_in_eval_mode(name: str) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(name=name), channels=1, size=32).eval()
    images = torch.randn(3, 1, 32, 32)
    with torch.no_grad():
        together, alone = encoder(images), torch.cat([encoder(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert together.std(dim=0).max() > 0


@pytest.mark.parametrize(
    ("size", "stem", "small"),
    [
        (32, "auto", True),
        (64, "auto", True),
        (65, "auto", False),
        (224, "auto", False),
        (32, "imagenet", False),
        (224, "small", True),
    ],
)
def test_build_encoder__stem_follows_the_size(size: int, stem: str, small: bool) -> None:
    with torch.device("meta"):
        config = build(EncoderConfig, {"name": "resnet18", "stem": stem})
        encoder = build_encoder(config, channels=1, size=size)
    first = encoder.conv1
    assert isinstance(first, nn.Conv2d)
    assert (first.kernel_size, first.stride) == (((3, 3), (1, 1)) if small else ((7, 7), (2, 2)))
    assert isinstance(encoder.maxpool, nn.Identity if small else nn.MaxPool2d)


@pytest.mark.parametrize("stem", ["small", "imagenet"])
@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_resnet__is_torchvisions(name: str, stem: str) -> None:
    reference: Any = getattr(models, name)()
    if stem == "small":
        reference.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        reference.maxpool = nn.Identity()
    reference.fc = nn.Identity()
    encoder = build_encoder(build(EncoderConfig, {"name": name, "stem": stem}), channels=3, size=32)
    encoder.load_state_dict(reference.state_dict())
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    ours, theirs = encoder(images), reference(images)
    assert torch.equal(ours, theirs)
    gradients = [
        torch.autograd.grad(made.square().sum(), list(net.parameters()))
        for made, net in ((ours, encoder), (theirs, reference))
    ]
    assert all(torch.equal(one, two) for one, two in zip(*gradients, strict=True))
    statistics = [dict(net.named_buffers()) for net in (encoder, reference)]
    assert all(torch.equal(value, statistics[1][key]) for key, value in statistics[0].items())


def test_resnet__starts_as_torchvisions() -> None:
    torch.manual_seed(0)
    encoder = build_encoder(build(EncoderConfig, {"name": "resnet18", "stem": "imagenet"}), channels=3, size=32)
    reference = models.resnet18().state_dict()
    for key, value in encoder.state_dict().items():
        if value.ndim < 4:
            assert torch.equal(value, reference[key]), key
        else:
            torch.testing.assert_close(value.std(), reference[key].std(), rtol=0.05, atol=0)


@pytest.mark.parametrize(("channels", "stem"), [(3, "imagenet"), (1, "imagenet"), (3, "small"), (9, "imagenet")])
def test_build_encoder__torchvisions_weights(channels: int, stem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pretrained = models.resnet18()
    monkeypatch.setattr(models.ResNet18_Weights, "get_state_dict", lambda *_, **__: pretrained.state_dict())
    config = {"name": "resnet18", "stem": stem, "weights": "IMAGENET1K_V1"}
    encoder = build_encoder(build(EncoderConfig, config), channels=channels, size=64).eval()
    assert torch.equal(encoder.get_parameter("layer4.1.conv2.weight"), pretrained.layer4[1].conv2.weight)
    if stem == "imagenet":
        images = torch.randn(2, channels, 64, 64)
        pretrained.fc = nn.Identity()
        colors = images.unflatten(1, (-1, 3)).mean(dim=1) if channels == 9 else images.expand(-1, 3, -1, -1)
        expected = pretrained.eval()(colors)  # of nine bands the first, fourth and seventh are red
        torch.testing.assert_close(encoder(images), expected, atol=1e-5, rtol=1e-4)


def test_resnet9__pools_before_relu_as_if_after_it() -> None:
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(name="resnet9", width=4), channels=3, size=32)
    layers: Any = copy.deepcopy(encoder.layers)
    reference = nn.Sequential()  # the order of the papers
    for layer in layers:
        pools = isinstance(layer, nn.Sequential) and isinstance(layer[0], nn.MaxPool2d)
        reference.extend([nn.ReLU(), nn.MaxPool2d(2)] if pools else [layer])
    images = torch.randn(8, 3, 32, 32)
    for autocast in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            ours, theirs = encoder(images), reference(images).mean(dim=(2, 3))
        assert torch.equal(ours, theirs)
        sums = [(made * torch.arange(512)).sum() for made in (ours, theirs)]
        gradients = [
            torch.autograd.grad(total, list(net.parameters()))
            for total, net in zip(sums, (encoder, reference), strict=True)
        ]
        assert all(torch.equal(one, two) for one, two in zip(*gradients, strict=True))


def test_build_encoder__width_and_embedding_dim_of_resnet9() -> None:
    for width, embedding_dim, expected in [(8, None, 64), (8, 40, 40), (16, 512, 512)]:
        config = EncoderConfig(name="resnet9", width=width, embedding_dim=embedding_dim)
        encoder = build_encoder(config, channels=1, size=8).eval()
        assert encoder.embedding_dim == expected
        assert encoder(torch.zeros(1, 1, 8, 8)).shape == (1, expected)
    convolutions = [layer for layer in encoder.modules() if isinstance(layer, nn.Conv2d)]
    assert sum(layer.kernel_size == (3, 3) for layer in convolutions) == 8
    assert len(convolutions) == 9


@pytest.mark.parametrize("field", ["width", "embedding_dim"])
def test_encoder_config__refuses_empty_layers(field: str) -> None:
    with pytest.raises(UsageError, match=field):
        build(EncoderConfig, {field: 0})


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("resnet19", "did you mean 'resnet"),
        ("reznet50", "did you mean 'resnet50'"),
        ("", "known are resnet18, resnet34, resnet50, resnet9, timm/NAME"),
        ("xyz", "known are"),
    ],
)
def test_build_encoder__unknown_name(name: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        build_encoder(EncoderConfig(name=name), channels=3, size=32)
    assert repr(name) in caught.value.message
    assert said in caught.value.message


def test_build_encoder__unknown_weights() -> None:
    with pytest.raises(UsageError, match="resnet9 has no pretrained weights"):
        build_encoder(EncoderConfig(name="resnet9", weights="IMAGENET1K_V1"), channels=3, size=32)
    with pytest.raises(UsageError, match="no weights 'V9'; known are IMAGENET1K_V1"):
        build_encoder(EncoderConfig(name="resnet18", weights="V9"), channels=3, size=32)


@pytest.mark.filterwarnings("ignore::UserWarning")  # timm's own
def test_check_view_size() -> None:
    pytest.importorskip("timm")
    vit = build_encoder(EncoderConfig(name="timm/vit_tiny_patch16_224"), channels=3, size=32)
    check_view_size(vit, name="timm/vit", channels=3, size=32)
    check_view_size(vit, name="timm/vit", channels=3, size=16)  # one patch
    with pytest.raises(UsageError, match="takes no views of 24 px"):  # a patch and a half
        check_view_size(vit, name="timm/vit", channels=3, size=24)
    resnet = build_encoder(EncoderConfig(name="resnet9", width=4), channels=1, size=32)
    check_view_size(resnet, name="resnet9", channels=1, size=16)
    assert resnet.training


@pytest.mark.filterwarnings("ignore::UserWarning")  # timm's own
@pytest.mark.parametrize(
    ("name", "size", "channels"),
    [("vit_tiny_patch16_224", 32, 3), ("vit_tiny_patch16_224", 64, 1), ("resnet10t", 32, 1)],
)
def test_build_encoder__timm(name: str, size: int, channels: int) -> None:
    timm = pytest.importorskip("timm")
    encoder = build_encoder(EncoderConfig(name=f"timm/{name}"), channels=channels, size=size)
    assert encoder.training
    embeddings = encoder(torch.randn(2, channels, size, size))
    assert embeddings.shape == (2, encoder.embedding_dim)
    assert encoder.embedding_dim == timm.create_model(name, num_classes=0).num_features


@pytest.mark.filterwarnings("ignore::UserWarning")  # timm's own
def test_build_encoder__patch_size_and_small_views_of_a_vit() -> None:
    timm = pytest.importorskip("timm")
    config = EncoderConfig(name="timm/vit_tiny_patch16_224", patch_size=4)
    encoder = build_encoder(config, channels=3, size=32).eval()
    plain = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32, patch_size=4).eval()
    plain.load_state_dict(encoder.state_dict())
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(encoder(images), plain(images))
        assert encoder(images[..., :16, :16]).shape == (2, encoder.embedding_dim)


@pytest.mark.filterwarnings("ignore::UserWarning")  # timm's own
def test_build_encoder__refuses_patches_where_there_are_none() -> None:
    pytest.importorskip("timm")
    with pytest.raises(UsageError, match=r"takes no encoder\.patch_size"):
        build_encoder(EncoderConfig(name="timm/resnet10t", patch_size=4), channels=3, size=32)


@pytest.mark.parametrize(("name", "said"), [("vit_tinny_patch16_224", "did you mean 'vit_tiny"), ("", "no model ''")])
def test_build_encoder__unknown_timm_model(name: str, said: str) -> None:
    pytest.importorskip("timm")
    with pytest.raises(UsageError) as caught:
        build_encoder(EncoderConfig(name=f"timm/{name}"), channels=3, size=32)
    assert said in caught.value.message
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("name", ["resnet9", "resnet18"])
def test_build_encoder__imports_neither_torchvision_nor_timm(name: str) -> None:
    code = (
        "import sys; from contrastive_cli.models.encoders import EncoderConfig, build_encoder\n"
        f"build_encoder(EncoderConfig(name={name!r}), channels=1, size=32)\n"
        "print(sorted({'torchvision', 'timm'} & sys.modules.keys()))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout == "[]\n"


def test_automatic_encoder__small_on_a_cpu() -> None:
    choices = [automatic_encoder(*case) for case in [("cpu", 32), ("cpu", 128), ("cpu", 224), ("cuda", 32)]]
    assert choices == ["resnet9", "resnet9", "resnet18", "resnet18"]


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_build_projector__layers(layers: int) -> None:
    projector = build_projector(inputs=6, hidden=10, outputs=4, layers=layers)
    linears = [layer for layer in projector if isinstance(layer, nn.Linear)]
    assert [layer.bias is not None for layer in linears] == [False] * (layers - 1) + [True]
    assert sum(isinstance(layer, nn.BatchNorm1d) for layer in projector) == layers - 1
    assert projector(torch.randn(5, 6)).shape == (5, 4)


def test_begin_as_identity__convolutions_hand_on_their_input() -> None:
    torch.manual_seed(0)
    usual = build_encoder(EncoderConfig(name="resnet9", width=4), channels=3, size=16)
    torch.manual_seed(0)
    net = build_encoder(EncoderConfig(name="resnet9", width=4, init="identity"), channels=3, size=16)
    pairs = list(zip(usual.modules(), net.modules(), strict=True))
    seen = [(one, other) for one, other in pairs if isinstance(one, nn.Conv2d) and isinstance(other, nn.Conv2d)]
    assert torch.equal(seen[0][0].weight, seen[0][1].weight)
    assert torch.equal(seen[-1][0].weight, seen[-1][1].weight)  # 1x1
    for drawn, convolution in seen[1:-1]:
        inputs = torch.randn(2, convolution.in_channels, 5, 5)
        torch.testing.assert_close(convolution(inputs)[:, : convolution.in_channels], inputs)
        assert torch.equal(drawn.weight[convolution.in_channels :], convolution.weight[convolution.in_channels :])


@pytest.mark.parametrize(
    ("name", "field", "value", "whose"),
    [
        ("resnet18", "init", "identity", "resnet9"),
        ("resnet18", "width", 8, "resnet9"),
        ("timm/vit_tiny_patch16_224", "embedding_dim", None, "resnet9"),
        ("resnet9", "stem", "imagenet", "ResNets"),
        ("timm/resnet10t", "stem", "small", "ResNets"),
        ("resnet9", "patch_size", 4, "timm's ViTs"),
    ],
)
def test_refuse_unused_fields__what_says_nothing_of_the_encoder(name: str, field: str, value: Any, whose: str) -> None:
    refuse_unused_fields(EncoderConfig(name=name))
    config = EncoderConfig(name=name, **{field: value})
    with pytest.raises(UsageError, match=rf"encoder\.{field} is for {whose}, not for {name}"):
        refuse_unused_fields(config)


@pytest.mark.parametrize(("size", "fitting"), [(44, 48), (20, 16)])
def test_build_encoder__a_size_that_patches_do_not_divide(size: int, fitting: int) -> None:
    pytest.importorskip("timm")
    with pytest.raises(UsageError, match=f"takes no images of {size} px") as refused:
        build_encoder(EncoderConfig(name="timm/test_vit"), channels=3, size=size)
    assert refused.value.hint is not None
    assert f"--set dataset.size={fitting}" in refused.value.hint
    assert build_encoder(EncoderConfig(name="timm/test_vit"), channels=3, size=fitting).embedding_dim == 64
