"""An encoder with the weights of its configuration: all of them, or an error that says what is missing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from contrastive_cli.core.errors import DataError
from contrastive_cli.core.manifest import WeightsFacts
from contrastive_cli.models.encoder import Encoder
from contrastive_cli.models.encoders import EncoderConfig, build_fresh, published_encoder
from contrastive_cli.models.weights.architectures import nearest_architecture
from contrastive_cli.models.weights.files import WeightsFile
from contrastive_cli.models.weights.matching import Match, match_tensors
from contrastive_cli.models.weights.origins import Origin, find_origin
from contrastive_cli.models.weights.reshaping import reshaped

SHOWN_KEYS = 3


def load_encoder(
    config: EncoderConfig, *, channels: int, size: int, origin: Origin | None = None
) -> tuple[Encoder, WeightsFacts]:
    """The encoder with its weights, for images [B, channels, size, size], and what became of them.

    Args:
        config: With weights.
        channels: Of the images.
        size: Of the images.
        origin: Where the weights come from, if that is known already.

    Raises:
        UsageError: If there are no such weights.
        DataError: If the file does not hold all of the encoder, or numbers that are not finite.
    """
    assert config.weights is not None, "there are weights"
    origin = origin or find_origin(config.name, config.weights)
    if origin.file is not None:
        return _from_file(config, origin.file, channels=channels, size=size)
    if origin.kind == "random":
        encoder = build_fresh(config, channels=channels, size=size)
    else:
        encoder = published_encoder(config, channels=channels, size=size)
    state = encoder.state_dict()
    return encoder, WeightsFacts(source=origin.text, sha256=state_sha256(state), matched=len(state))


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """The sha256 of tensors and their names, in hex."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _from_file(config: EncoderConfig, file: WeightsFile, *, channels: int, size: int) -> tuple[Encoder, WeightsFacts]:
    encoder = build_fresh(config, channels=channels, size=size)
    wanted = encoder.state_dict()
    match = reshaped(encoder, match_tensors(file.tensors, wanted), file.tensors)
    if not match.is_whole:
        raise _not_whole(config, file, match)
    for name, tensor in match.tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise DataError(f"{file.path} holds numbers that are not finite in {name}", path=file.path)
    encoder.load_state_dict({**wanted, **match.tensors})
    return encoder, WeightsFacts(
        source=str(file.path if file.run is None else file.run.path.absolute()),
        sha256=file.sha256,
        matched=len(match.tensors),
        missing=match.counters,
        left_over=len(match.left_over),
        examples=match.left_over[:SHOWN_KEYS],
        prefix=match.prefix,
    )


def _not_whole(config: EncoderConfig, file: WeightsFile, match: Match) -> DataError:
    found = [f"{name} is {_shape(there)}, not {_shape(wanted)}" for name, there, wanted in match.misshapen]
    lacking = list(match.missing)
    missing = len(lacking) + len(match.misshapen)
    parts = [f"{len(match.tensors)} tensors match, {missing} are missing, {len(match.left_over)} are left over"]
    if lacking:
        parts.append(f"missing {_first(lacking)}")
    if found:
        parts.append(_first(found))
    if not match.tensors:
        parts.append(f"the file has {_first(list(file.tensors))}")
    nearest = nearest_architecture(file.tensors, config.name)
    hint = f"it fits {nearest}: give --encoder {nearest}" if nearest else "give the encoder that the weights are of"
    return DataError(f"{file.path} does not hold all of {config.name}: {'; '.join(parts)}", hint=hint, path=file.path)


def _first(names: list[str]) -> str:
    return ", ".join(names[:SHOWN_KEYS]) + (", ..." if len(names) > SHOWN_KEYS else "")


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a number"
