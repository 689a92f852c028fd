"""Datasets of one's own, and that those of clr stand in one place each."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path

import numpy as np
import pytest

import contrastive_cli
from contrastive_cli.core.errors import DataError, UsageError
from contrastive_cli.data.datasets import DATASETS, find_dataset, open_dataset
from contrastive_cli.data.own_datasets import find_own, name_dataset

ROOT = Path(contrastive_cli.__file__).parent
PAGE = Path(__file__).parents[2] / "docs" / "folders.md"
OTHER_MEANING = {  # the recipe of that name, and the word
    ("views/recipe.py", "digits"),
    *((f"{name}.py", "folder") for name in ("data/layout", "data/scan", "data/reading", "cli/suggestions")),
}


def example() -> str:
    """The file that docs/folders.md shows."""
    return PAGE.read_text().partition("```python\n")[2].partition("```")[0]


def write(folder: Path, text: str, name: str = "my_data.py") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_name_dataset__of_a_file_opens_as_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, example())
    monkeypatch.chdir(tmp_path)
    name = name_dataset("my_data.py")
    assert name == str(tmp_path / "my_data.py")
    images = open_dataset(name, split="train", data_dir=None, size=16)
    assert (images.name, images.num_samples, images.classes) == ("noise", 64, ("bright", "dark"))
    assert open_dataset("noise", split="test", data_dir=None, size=16).fingerprint != images.fingerprint
    own = find_own(name)
    assert own is not None
    assert own.sha256 == hashlib.sha256((tmp_path / "my_data.py").read_bytes()).hexdigest()


def test_find_dataset__a_file_that_nobody_named_is_not_run(tmp_path: Path) -> None:
    name = write(tmp_path, f"open({str(tmp_path / 'pwned')!r}, 'w')\n")
    with pytest.raises(UsageError, match="run only when it is named") as caught:
        find_dataset(name)
    assert caught.value.hint == f"if you trust it, add --dataset {name}"
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "does not define DATASET"),
        ("DATASET = 3\n", "DATASET is a int, not a DatasetSpec"),
        ("x = (\n", r"my_data\.py.*SyntaxError"),
        ("\nimport absent_library\n", r"my_data\.py:2: ModuleNotFoundError: No module named 'absent_library'"),
        (example().replace('name="noise"', 'name="My Noise"'), "name 'My Noise' is not made of"),
        (example().replace('name="noise"', 'name="lfw"'), "name 'lfw' is that of a dataset of clr"),
        (example().replace("channels=3,", "channels=4,"), "channels 4 is neither 1 nor 3"),
        (example().replace("size=16,", "size='big',"), "size 'big' is not from 8 to 1024"),
        (example().replace("open=open_noise", "open=None"), "open cannot be called"),
        (example().replace('folder="none"', 'pretrain_split="all"'), "pretrain_split 'all' is not among splits"),
    ],
)
def test_name_dataset__what_does_not_fit_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        name_dataset(write(tmp_path, text))
    assert "\n" not in caught.value.message


def test_name_dataset__absent_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        name_dataset(str(tmp_path / "absent.py"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    return Source(", "    return 3\n    return Source(", "open returned a int, not a Source or None"),
        ("    return Source(", "    1 / 0\n    return Source(", r"my_data\.py:\d+: ZeroDivisionError"),
        ("np.arange(64) % 2", "np.arange(64) % 3", "labels from 0 to 2 do not fit 2 classes"),
        ("np.arange(64) % 2", "np.arange(63) % 2", "boolean index|not one integer for each"),
        ("np.arange(64) % 2", "(np.arange(64) % 2).astype(float)", "not one integer for each of the 64 paths"),
        ("size=request.size)", "size=7)", r"read\(0\) is uint8 \[3, 7, 7\], not uint8 \[3, 16, 16\]"),
    ],
)
def test_open_dataset__what_a_file_of_ones_own_gets_wrong(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = example().replace(old, new, 1)
    assert text != example()
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(name_dataset(write(tmp_path, text)), split="train", data_dir=None, size=16)
    assert "\n" not in caught.value.message


def test_open_dataset__another_version_of_a_file_is_decoded_anew(tmp_path: Path) -> None:
    first = write(tmp_path, example(), "first.py")
    second = write(tmp_path, example().replace("//= 2", "//= 3"), "second.py")
    one, two = (open_dataset(name_dataset(name), split="train", data_dir=None, size=16) for name in (first, second))
    assert not np.array_equal(one.images, two.images)


def test_find_dataset__entry_points_are_imported_when_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "their_data-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: their-data\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[clr.datasets]\ntheirs = their_data\nwrong = their_data:WRONG\n")
    touch = f"open({str(tmp_path / 'imported')!r}, 'w').close()\n"
    write(tmp_path, touch + example().replace('"noise"', '"theirs"') + "WRONG = 7\n", "their_data.py")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match="no dataset named 'others'"):
        find_dataset("others")
    assert not (tmp_path / "imported").exists()
    assert open_dataset("theirs", split="train", data_dir=None, size=16).num_samples == 64
    with pytest.raises(UsageError, match=r"their_data:WRONG \(clr.datasets\): DATASET is a int"):
        find_dataset("wrong")


def test_datasets__their_names_stand_in_their_own_file_only() -> None:
    for path in sorted(ROOT.rglob("*.py")):
        module = path.relative_to(ROOT).as_posix()
        constants = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
        named = {name for name in DATASETS if name in constants} - {n for m, n in OTHER_MEANING if m == module}
        if module == "data/datasets.py":
            assert named == {"digits", "folder"}, "the defaults"
        elif module.startswith("data/entries/"):
            assert named <= {path.stem.replace("_", "-")}, module
        else:
            assert not named, module
