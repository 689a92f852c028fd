"""Which encoder the tensors of a file are of, for the message that they are not of the one that was named."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from contrastive_cli.models.resnet import RESNETS, ResNet, Stem
from contrastive_cli.models.timm_encoders import PREFIX, import_timm
from contrastive_cli.models.weights.matching import match_tensors

STEMS: tuple[Stem, ...] = ("imagenet", "small")
MOST_TRIED = 12  # models of timm, each built without memory


def nearest_architecture(given: Mapping[str, Tensor], encoder: str) -> str | None:
    """The encoder that all of its tensors were found of, and most of the file's; None if none is.

    Args:
        given: The tensors of the file.
        encoder: The name that was given; models of timm are tried only where it is one.
    """
    best, most = None, 0
    for name, wanted in _candidates(encoder):
        match = match_tensors(given, wanted)
        if match.is_whole and len(match.tensors) > most:
            best, most = name, len(match.tensors)
    return best


def _candidates(encoder: str) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    for name in RESNETS:
        for stem in STEMS:
            with torch.device("meta"):
                yield name, ResNet(name, channels=3, stem=stem).state_dict()
    if not encoder.startswith(PREFIX):
        return
    timm = import_timm()
    own = encoder.removeprefix(PREFIX).partition(".")[0]
    family = re.split(r"[_\d]", own)[0]
    names = sorted(timm.list_models(f"{family}*"), key=lambda name: _distance(own, name))
    for name in names[:MOST_TRIED]:
        try:
            with torch.device("meta"):
                net = timm.create_model(name, num_classes=0)
        except (RuntimeError, NotImplementedError, TypeError, ValueError):  # some cannot be built without memory
            continue
        yield PREFIX + name, net.state_dict()


def _distance(own: str, other: str) -> tuple[int, float]:
    """How many words of a name are others, such as tiny for small; then how unlike the letters are."""
    words = itertools.zip_longest(own.split("_"), other.split("_"))
    return sum(one != another for one, another in words), -difflib.SequenceMatcher(a=own, b=other).ratio()
