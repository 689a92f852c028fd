from __future__ import annotations

import pytest
import torch

from contrastive_cli.models.decoders import Decoder


@pytest.mark.parametrize("size", [8, 9, 24, 28, 30, 31, 32, 33, 64, 96])
def test_decoder__draws_any_size_and_every_pixel_depends_on_the_code(size: int) -> None:
    torch.manual_seed(0)
    decoder = Decoder(inputs=5, channels=3, size=size, width=4).eval()
    with torch.no_grad():
        images = decoder(torch.randn(6, 5))
    assert images.shape == (6, 3, size, size)
    assert images.std(dim=0).min() > 0  # no border that the layers do not reach


def test_decoder__refuses_what_is_smaller_than_one_doubling() -> None:
    with pytest.raises(ValueError, match="at least 8 pixels a side, not 7"):
        Decoder(inputs=5, channels=3, size=7, width=4)
