"""Folded batch norms compute what they computed before."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from contrastive_cli.models.encoders import EncoderConfig, build_encoder
from contrastive_cli.models.folding import fold_batch_norms


def trained(name: str) -> nn.Module:
    """An encoder whose batch norms are anything but the identity."""
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(name=name, width=8), channels=3, size=32).eval()
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.3)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.3, 3)  # type: ignore[arg-type]
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
    return encoder


@pytest.mark.parametrize("name", ["resnet9", "resnet18", "resnet50"])
def test_fold_batch_norms__same_function(name: str) -> None:
    encoder = trained(name).double()
    before = copy.deepcopy(encoder.state_dict())
    images = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        folded = fold_batch_norms(encoder)
        torch.testing.assert_close(folded(images), encoder(images), rtol=1e-10, atol=1e-10)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())


def test_fold_batch_norms__no_less_precise_in_bf16() -> None:
    encoder = trained("resnet9")
    images = torch.randn(64, 3, 32, 32)
    with torch.no_grad():
        exact = encoder.double()(images.double())
        encoder.float()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            plain, folded = (net(images).double() for net in (encoder, fold_batch_norms(encoder)))
    assert (folded - exact).norm() < 1.2 * (plain - exact).norm()
    assert (folded - exact).norm() < 0.02 * exact.norm()


def test_fold_batch_norms__leaves_others_alone() -> None:
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4)).eval()
    assert sum(isinstance(module, nn.BatchNorm2d) for module in fold_batch_norms(net).modules()) == 2
