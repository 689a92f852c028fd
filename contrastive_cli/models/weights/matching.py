"""The encoder inside a file of weights: which of its tensors is which of the encoder's, whatever wrote it.

Layouts that are understood, as rules from torchvision's names to those of a file:
the names themselves, with any prefix (torchvision, timm, this package, MoCo, DINO, VICReg, Barlow Twins, solo-learn,
sthalles/SimCLR: `module.encoder_q.`, `backbone.`, `encoder.`, `teacher.`), the positions in a Sequential of the layers
(lightly: `backbone.0.weight` is the first convolution; its generator of ResNets has no ReLU and no pooling there), and
`shortcut` for `downsample` (SupContrast), and the names of efficientnet-pytorch for timm's (`_blocks.3._bn0`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

_SECOND_CHOICE = ("momentum", "encoder_k", "key_", "target", "ema_old")
_SEQUENTIAL = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
_GENERATED = {"conv1": "0", "bn1": "1", "layer1": "2", "layer2": "3", "layer3": "4", "layer4": "5"}
_EFFICIENTNET_ENDS = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1"}
_EFFICIENTNET_FIRST = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
_EFFICIENTNET = {
    **{"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1"},
    **{"conv_pwl": "_project_conv", "bn3": "_bn2"},
}
COUNTER = "num_batches_tracked"  # of batch norms, which only averaging with equal weights needs


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """What of an encoder was found among tensors.

    Attributes:
        tensors: Found, by the encoder's names.
        missing: The encoder's names of what was not found, counters of batch norms left out.
        misshapen: What was found in another shape, as (name, shape there, shape wanted).
        counters: Counters of batch norms that were not found.
        left_over: Names of the tensors that are none of the encoder's.
        prefix: What stands before the names in the file.
    """

    tensors: Mapping[str, Tensor]
    missing: tuple[str, ...]
    misshapen: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    counters: tuple[str, ...]
    left_over: tuple[str, ...]
    prefix: str

    @property
    def is_whole(self) -> bool:
        """Whether all of the encoder was found, in its shapes."""
        return not self.missing and not self.misshapen


def match_tensors(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Match:
    """Find an encoder's tensors among those of a file, by the layout and the prefix that fit most of them.

    Args:
        given: The tensors of a file, by name.
        wanted: The encoder's, of which only names and shapes count.
    """
    best: tuple[tuple[int, int, int], Mapping[str, str], str] | None = None
    anchors = [key for key in wanted if not key.endswith(COUNTER)]
    for place, layout in enumerate(_LAYOUTS):
        names = layout(list(wanted))
        for prefix in _prefixes(given, [names[key] for key in (*anchors[:2], *anchors[-1:])]):
            found = [(key, given[name]) for key in anchors if (name := prefix + names[key]) in given]
            fitting = sum(tensor.shape == wanted[key].shape for key, tensor in found)
            score = (fitting, -_rank(prefix), -place)
            if found and (best is None or score > best[0]):
                best = (score, names, prefix)
    if best is None:
        return _matched(given, wanted, names=_same(list(wanted)), prefix="")
    return _matched(given, wanted, names=best[1], prefix=best[2])


def _matched(
    given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], *, names: Mapping[str, str], prefix: str
) -> Match:
    tensors: dict[str, Tensor] = {}
    misshapen: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = []
    missing: list[str] = []
    counters: list[str] = []
    used: set[str] = set()
    for key, like in wanted.items():
        name = prefix + names[key]
        if name not in given:
            (counters if key.endswith(COUNTER) else missing).append(key)
            continue
        used.add(name)
        if given[name].shape == like.shape:
            tensors[key] = given[name]
        else:
            misshapen.append((key, tuple(given[name].shape), tuple(like.shape)))
    return Match(
        tensors=tensors,
        missing=tuple(missing),
        misshapen=tuple(misshapen),
        counters=tuple(counters),
        left_over=tuple(name for name in given if name not in used),
        prefix=prefix,
    )


def _prefixes(given: Mapping[str, Tensor], anchors: Sequence[str]) -> list[str]:
    """What stands before an anchor in any name, each once."""
    found = [
        name.removesuffix(anchor)
        for anchor in dict.fromkeys(anchors)
        for name in given
        if name == anchor or name.endswith(f".{anchor}")
    ]
    return list(dict.fromkeys(found))


def _rank(prefix: str) -> int:
    """How far a copy of the encoder is from the one that is evaluated: DINO's teacher, else the one that is trained."""
    return 2 * any(word in prefix for word in _SECOND_CHOICE) + ("student" in prefix)


def _same(keys: Sequence[str]) -> dict[str, str]:
    return {key: key for key in keys}


def _sequential(keys: Sequence[str]) -> dict[str, str]:
    return {key: _first_word(key, _SEQUENTIAL) for key in keys}


def _shortcut(keys: Sequence[str]) -> dict[str, str]:
    return {key: key.replace(".downsample.", ".shortcut.") for key in keys}


def _generated(keys: Sequence[str]) -> dict[str, str]:
    return {key: _first_word(name, _GENERATED) for key, name in _shortcut(keys).items()}


def _efficientnet(keys: Sequence[str]) -> dict[str, str]:
    """Blocks are counted through, and the layers have names of their own, which those of a first block lack."""
    blocks = list(dict.fromkeys(tuple(key.split(".")[1:3]) for key in keys if key.startswith("blocks.")))
    names = {}
    for key in keys:
        parts = key.split(".")
        if parts[0] != "blocks" or len(parts) < 4:  # some transformers have blocks too, with tensors of their own
            names[key] = ".".join([_EFFICIENTNET_ENDS.get(parts[0], parts[0]), *parts[1:]])
            continue
        layers = _EFFICIENTNET_FIRST if parts[1] == "0" else _EFFICIENTNET
        number = blocks.index((parts[1], parts[2]))
        names[key] = ".".join(["_blocks", str(number), layers.get(parts[3], parts[3]), *parts[4:]])
    return names


_LAYOUTS = (_same, _sequential, _shortcut, _generated, _efficientnet)


def _first_word(key: str, words: Mapping[str, str]) -> str:
    first, _, rest = key.partition(".")
    return f"{words.get(first, first)}.{rest}"
