"""Files of weights: what is read, what is refused, and that nothing in them is run."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from contrastive_cli.core.errors import ClrError, DataError, UnsafeFileError
from contrastive_cli.models.weights.files import read_weights


def tensors() -> dict[str, Tensor]:
    """Two tensors."""
    return {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.tensor(1)}


def as_lists(found: Any) -> dict[str, Any]:
    """Comparable values."""
    return {name: tensor.tolist() for name, tensor in found.items()}


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = str(place)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.place,)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.pt", "w.ckpt", "w.pth.tar", "legacy.pt"])
def test_read_weights__of_every_format(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    if name.endswith("safetensors"):
        save_file(tensors(), file)
    else:
        torch.save(tensors(), file, _use_new_zipfile_serialization=not name.startswith("legacy"))
    found = read_weights(file)
    assert as_lists(found.tensors) == as_lists(tensors())
    assert found.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize("place", ["top", "nested", "in the optimizer"])
@pytest.mark.parametrize("new", [True, False])
def test_read_weights__runs_nothing(tmp_path: Path, place: str, new: bool) -> None:
    evil = Evil(tmp_path / "ran")
    value: Any = {
        "top": {"state_dict": tensors(), "hparams": evil},
        "nested": {"state_dict": {"a": torch.ones(1), "b": [evil]}},
        "in the optimizer": {"model": tensors(), "optimizer": {"state": {0: evil}}},
    }[place]
    torch.save(value, tmp_path / "w.pth", _use_new_zipfile_serialization=new)
    with pytest.raises(UnsafeFileError) as caught:
        read_weights(tmp_path / "w.pth")
    assert caught.value.exit_code == 4
    assert not (tmp_path / "ran").exists()
    assert "mkdir" in caught.value.message


def test_read_weights__plain_pickles_run_nothing(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(pickle.dumps({"a": Evil(tmp_path / "ran")}))
    with pytest.raises(ClrError) as caught:
        read_weights(tmp_path / "w.pth")
    assert caught.value.exit_code in (3, 4)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("call", [("argparse", "ArgumentParser"), ("argparse", "_sys"), ("typing", "get_type_hints")])
def test_read_weights__stand_ins_open_no_other_name(tmp_path: Path, call: tuple[str, str]) -> None:
    class Named:
        def __reduce__(self) -> Any:
            return getattr(__import__(call[0]), call[1]), ()

    try:
        torch.save({"a": torch.ones(1), "b": Named()}, tmp_path / "w.pth")
    except (pickle.PicklingError, TypeError):  # a module cannot be pickled at all
        return
    with pytest.raises(UnsafeFileError):
        read_weights(tmp_path / "w.pth")


def test_read_weights__arguments_of_other_programs_become_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    omegaconf = pytest.importorskip("omegaconf")
    module = types.ModuleType("pytorch_lightning.utilities.parsing")

    class AttributeDict(dict[str, Any]):
        """As Lightning's."""

    AttributeDict.__module__, AttributeDict.__qualname__ = module.__name__, "AttributeDict"
    module.AttributeDict = AttributeDict  # type: ignore[attr-defined]
    for name in ("pytorch_lightning", "pytorch_lightning.utilities"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    value = {
        "state_dict": tensors(),
        "opt": argparse.Namespace(lr=0.1, name="SupCon"),
        "hyper_parameters": AttributeDict(lr=0.1),
        "cfg": omegaconf.OmegaConf.create({"method": "byol", "sizes": [1, 2.5], "deep": {"a": None, "b": True}}),
        "pytorch-lightning_version": "2.0",
    }
    torch.save(value, tmp_path / "w.ckpt")
    monkeypatch.undo()
    found = read_weights(tmp_path / "w.ckpt")
    assert as_lists(found.tensors) == {f"state_dict.{name}": value for name, value in as_lists(tensors()).items()}
    assert found.from_lightning


def test_read_weights__refuses_a_bomb(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(3_000_000)}, tmp_path / "plain.pt")
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for member in plain.namelist():
            bomb.writestr(member, plain.read(member))
    with pytest.raises(UnsafeFileError, match="would unpack to 12 MB"):
        read_weights(tmp_path / "bomb.pt")


@pytest.mark.usefixtures("time_limit")
def test_read_weights__dictionaries_that_hold_themselves_end(tmp_path: Path) -> None:
    loop: dict[str, Any] = {"a": torch.ones(1)}
    loop["again"] = loop
    wide: dict[str, Any] = {"b": torch.ones(1)}
    for _ in range(5):
        wide = {str(number): wide for number in range(1000)}
    torch.save({"loop": loop, "wide": wide}, tmp_path / "w.pt")
    assert set(read_weights(tmp_path / "w.pt").tensors) == {"loop.a", "wide.0.0.0.0.0.b"}


@pytest.mark.usefixtures("time_limit")
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("w.pth", b"", "no file of weights"),
        ("w.pth", b"hello there", "no file of weights"),
        ("w.safetensors", b"\xff" * 40, "no whole .safetensors"),
        ("w.safetensors", (2**40).to_bytes(8, "little") + b"{}", "no whole .safetensors"),
        ("w.pt", b"PK\x03\x04 and no more", "is damaged"),
    ],
)
def test_read_weights__damaged(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_weights(tmp_path / name)


@pytest.mark.usefixtures("time_limit")
def test_read_weights__no_tensors_no_file_fifo(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "none.pt")
    torch.save(np.float64(3), tmp_path / "number.pt")
    os.mkfifo(tmp_path / "fifo.pt")
    for name, said in [("none.pt", "no tensors"), ("fifo.pt", "no file of weights"), ("missing.pt", "No such file")]:
        with pytest.raises(DataError, match=said):
            read_weights(tmp_path / name)
    with pytest.raises(UnsafeFileError):
        read_weights(tmp_path / "number.pt")
    with pytest.raises(DataError, match="neither a run nor"):
        read_weights(tmp_path)


def test_read_weights__folder_with_its_configuration(tmp_path: Path) -> None:
    save_file(tensors(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet18"}))
    found = read_weights(tmp_path)
    assert found.config == {"architecture": "resnet18"}
    assert as_lists(found.tensors) == as_lists(tensors())
    for broken in ("[1]", "{", "[" * 100_000):
        (tmp_path / "config.json").write_text(broken)
        with pytest.raises(DataError, match=r"config\.json"):
            read_weights(tmp_path)


def test_read_weights__sparse_tensors_are_left_out(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2), "b": torch.eye(2).to_sparse(), "c": nn.Parameter(torch.ones(1))}, tmp_path / "w.pt")
    assert set(read_weights(tmp_path / "w.pt").tensors) == {"a", "c"}
