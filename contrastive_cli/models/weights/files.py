"""Weights in a file, a folder or a run, read as tensors by name; nothing in them is run.

A file of torch is read by torch's own `weights_only` reader. What is beside the tensors in the checkpoints of other
programs (arguments, configurations) becomes empty stand-ins, which do nothing.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import re
import stat
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from contrastive_cli.core.containment import is_inside
from contrastive_cli.core.damage import TORCH_LOAD_ERRORS
from contrastive_cli.core.errors import DataError, RunError, UnsafeFileError
from contrastive_cli.core.manifest import checkpoints_of
from contrastive_cli.core.runs import Run

MAX_BYTES = 16_000_000_000
MAX_CONFIG_BYTES = 1_000_000
MAX_DEPTH = 6
MAX_TENSORS = 100_000
FILES_OF_A_FOLDER = ("model.safetensors", "pytorch_model.bin")
HINT = "save the tensors alone: torch.save(model.state_dict(), 'weights.pth'), or as .safetensors"

_NOT_WEIGHTS = (
    *("optimizer", "optimizers", "optimizer_states", "optim", "scheduler", "lr_schedulers", "loops"),
    *("loss_sum", "torch_rng"),  # of this package's own checkpoints
)
_ASKED = re.compile(r"GLOBAL (\S{1,100})")


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightsFile:
    """The tensors of a file by their names, nested dictionaries joined by dots.

    Attributes:
        path: The file.
        sha256: Of the file, in hex.
        tensors: By name.
        config: What a config.json beside it says; empty without one.
        run: The run whose checkpoint it is.
    """

    path: Path
    sha256: str
    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any] = field(default_factory=dict)
    run: Run | None = None
    from_lightning: bool = False


def read_weights(path: Path) -> WeightsFile:
    """Read a .safetensors, .pth, .pt or .ckpt file, a folder of timm's or Hugging Face's layout, or a run.

    Raises:
        DataError: If it cannot be read or holds no tensors.
        UnsafeFileError: If reading it could run code; nothing of it is run.
        RunError: If a run has no intact checkpoint.
    """
    if path.is_dir():
        if (path / "manifest.json").is_file():
            return _of_run(Run(path))
        return _of_folder(path)
    return _of_file(path)


def _of_folder(folder: Path) -> WeightsFile:
    for name in FILES_OF_A_FOLDER:
        if (folder / name).is_file():
            found = _of_file(folder / name)
            config = read_config(folder / "config.json")
            return WeightsFile(path=found.path, sha256=found.sha256, tensors=found.tensors, config=config)
    names = " or ".join(FILES_OF_A_FOLDER)
    raise DataError(f"the folder {folder} holds neither a run nor {names}", hint="give the file itself", path=folder)


def read_config(file: Path) -> Mapping[str, Any]:
    """What a config.json says; empty if there is none.

    Raises:
        DataError: If it is no JSON object of a sensible size.
    """
    if not file.exists():
        return {}
    try:
        if not file.is_file() or file.stat().st_size > MAX_CONFIG_BYTES:
            raise DataError(f"{file} is no configuration of an encoder", path=file)
        found = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file} cannot be read: {_one_line(error)}", path=file) from None
    if not isinstance(found, dict):
        raise DataError(f"{file} holds a {type(found).__name__}, not the configuration of an encoder", path=file)
    return found


def _of_run(run: Run) -> WeightsFile:
    damaged = []
    for key, artifact in checkpoints_of(run.manifest().artifacts):
        file = run.path / key
        if not is_inside(file, run.path):
            continue
        try:
            found = _of_file(file)
        except DataError:
            damaged.append(key)
            continue
        if found.sha256 != artifact.sha256:
            damaged.append(key)
            continue
        return WeightsFile(path=file, sha256=found.sha256, tensors=found.tensors, run=run)
    reason = f"every checkpoint is damaged: {', '.join(damaged)}" if damaged else "it has no checkpoint"
    raise RunError(f"the run {run.path} has no weights: {reason}", path=run.path)


def _of_file(file: Path) -> WeightsFile:
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a FIFO would wait for ever
            raise DataError(f"{file} is no file of weights", path=file)
        if status.st_size > MAX_BYTES:
            raise DataError(f"{file} is larger than {MAX_BYTES // 1_000_000_000} GB", path=file)
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the weights {file}: {error.strerror}", path=file) from None
    value = _read_safetensors(content, file) if _is_safetensors(file, content) else _read_torch(content, file)
    tensors: dict[str, Tensor] = {}
    for name, tensor in _named_tensors(value):
        tensors[name] = tensor
        if len(tensors) > MAX_TENSORS:
            raise DataError(f"{file} holds more than {MAX_TENSORS} tensors", path=file)
    if not tensors:
        raise DataError(f"{file} holds no tensors by name", hint=HINT, path=file)
    return WeightsFile(
        path=file,
        sha256=hashlib.sha256(content).hexdigest(),
        tensors=tensors,
        from_lightning=isinstance(value, Mapping) and "pytorch-lightning_version" in value,
    )


def _is_safetensors(file: Path, content: bytes) -> bool:
    return file.suffix == ".safetensors" or (content[8:9] == b"{" and not content.startswith((b"PK", b"\x80")))


def _read_safetensors(content: bytes, file: Path) -> Mapping[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        found: Mapping[str, Tensor] = load(content)
    except (SafetensorError, *TORCH_LOAD_ERRORS) as error:
        raise DataError(f"{file} is no whole .safetensors file: {_one_line(error)}", path=file) from None
    return found


class _Ignored:
    """What stands where another program keeps its arguments: it takes any state and keeps none."""

    def __new__(cls, *_: object) -> _Ignored:
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        del state


def _empty(*_: object) -> dict[Any, Any]:
    return {}


# Only names of classes that hold arguments: what is not here stops the reading, before anything is made of it.
_STAND_INS: list[Any] = [
    (dict, "pytorch_lightning.utilities.parsing.AttributeDict"),
    (dict, "lightning.pytorch.utilities.parsing.AttributeDict"),
    (dict, "lightning.fabric.utilities.data.AttributeDict"),
    (dict, "lightning_fabric.utilities.data.AttributeDict"),
    *(
        (_Ignored, name)
        for name in (
            "argparse.Namespace",
            "omegaconf.dictconfig.DictConfig",
            "omegaconf.listconfig.ListConfig",
            "omegaconf.base.ContainerMetadata",
            "omegaconf.base.Metadata",
            "omegaconf.nodes.AnyNode",
            "omegaconf.nodes.StringNode",
            "omegaconf.nodes.IntegerNode",
            "omegaconf.nodes.FloatNode",
            "omegaconf.nodes.BooleanNode",
            "typing.Any",
            *(f"builtins.{kind}" for kind in ("bool", "dict", "float", "int", "list", "str", "tuple")),
        )
    ),
    (_empty, "collections.defaultdict"),
]


def _read_torch(content: bytes, file: Path) -> Any:
    _refuse_bomb(content, file)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_STAND_INS):
            warnings.simplefilter("ignore")  # it warns of what it may do in other releases
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = _ASKED.search(str(error))
        if asked is None and not content.startswith((b"PK", b"\x80")):
            raise DataError(f"{file} is no file of weights", hint=HINT, path=file) from None
        what = f"asks for {asked[1]}" if asked else "holds more than tensors and plain values"
        raise UnsafeFileError(f"{file} {what}, so it was not read further", hint=HINT, path=file) from None
    except TORCH_LOAD_ERRORS as error:
        raise DataError(f"{file} is no file of weights: {_one_line(error)}", hint=HINT, path=file) from None


def _refuse_bomb(content: bytes, file: Path) -> None:
    """Files of torch are stored as they are: one that unpacks to much more is none."""
    if not content.startswith(b"PK"):
        return
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            total = sum(member.file_size for member in archive.infolist())
    except TORCH_LOAD_ERRORS as error:
        raise DataError(f"{file} is damaged: {_one_line(error)}", path=file) from None
    if total > 4 * len(content) + 1_000_000:
        message = f"{file} would unpack to {total / 1e6:.0f} MB from {len(content) / 1e6:.1f} MB"
        raise UnsafeFileError(message, hint=HINT, path=file)


def _named_tensors(value: Any, prefix: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, Tensor]]:
    """Every dense tensor below nested dictionaries, with the keys on the way to it; each dictionary is read once."""
    seen = set() if seen is None else seen
    if not isinstance(value, Mapping) or id(value) in seen or prefix.count(".") > MAX_DEPTH:
        return
    seen.add(id(value))
    for key, found in value.items():
        if key in _NOT_WEIGHTS:
            continue
        if isinstance(found, Tensor):
            if found.layout == torch.strided and not found.is_quantized:
                yield f"{prefix}{key}", found.detach()
        else:
            yield from _named_tensors(found, f"{prefix}{key}.", seen)


def _one_line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
