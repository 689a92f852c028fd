"""A method of one's own: a file like one in `methods/`, imported only where a person named it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from clr_process import TINY, Clr

import contrastive_cli.methods

SIMCLR = (Path(contrastive_cli.methods.__file__).parent / "simclr.py").read_text()
OWN = SIMCLR.replace('Literal["simclr"] = "simclr"', 'Literal["my-own"] = "my-own"')
SHORT = ["--epochs", "0.3", *TINY]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    file = tmp_path / "my_own.py"
    file.write_text(OWN)
    return file


def test_own_method__trains_is_recorded_and_used_again(clr: Clr, own: Path, tmp_path: Path) -> None:
    done = clr("pretrain", "--method", own, *SHORT, "--out", "run", cwd=tmp_path)
    assert done.code == 0, done.err
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["method"] == "my-own"
    assert manifest["method_file"] == {"path": str(own), "sha256": hashlib.sha256(OWN.encode()).hexdigest()}
    embedded = clr("embed", "--run", "run", "--out", "e.npz", cwd=tmp_path)
    assert embedded.code == 0, embedded.err


def test_own_method__gives_the_run_of_the_same_file_inside(clr: Clr, own: Path, tmp_path: Path) -> None:
    alike = [*SHORT, "--config", "digits-simclr", "--json"]  # which a method of one's own has not by itself
    inside = clr("pretrain", *alike, "--out", "inside", cwd=tmp_path)
    outside = clr("pretrain", "--method", own, *alike, "--out", "outside", cwd=tmp_path)
    assert inside.json["loss"] == outside.json["loss"]


def test_own_method__of_a_stranger_is_not_imported(clr: Clr, own: Path, tmp_path: Path) -> None:
    assert clr("pretrain", "--method", own, *SHORT, "--out", "run", cwd=tmp_path).code == 0
    trap = OWN + f"\nopen({str(tmp_path / 'trapped')!r}, 'w')\n"
    own.write_text(trap)
    manifest = tmp_path / "run" / "manifest.json"
    told = json.loads(manifest.read_text())
    told["method_file"]["sha256"] = hashlib.sha256(trap.encode()).hexdigest()
    manifest.write_text(json.dumps(told))
    refused = clr("embed", "--run", "run", cwd=tmp_path)
    assert refused.code == 5, refused.err
    assert "clr methods FILE.py" in refused.err
    named_by_a_file = tmp_path / "config.yaml"
    named_by_a_file.write_text(f"method: {{name: {own}}}\n")
    assert clr("pretrain", "--config", named_by_a_file, *SHORT, cwd=tmp_path).code == 2
    assert not (tmp_path / "trapped").exists()
    assert clr("methods", own, cwd=tmp_path).code == 0  # now a person has named it
    assert (tmp_path / "trapped").exists()
    assert clr("embed", "--run", "run", "--out", "e.npz", cwd=tmp_path).code == 0


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("x = 1\n", 2, "METHOD is nothing"),
        ("METHOD = 3\n", 2, "METHOD is a int"),
        ("def f(:\n", 2, "my_own.py:1: SyntaxError"),
        ("\nraise ValueError('no')\n", 2, "my_own.py:2: ValueError: no"),
        (SIMCLR, 2, "'simclr' is that of a method of clr"),
        (OWN.replace("def embed(", "def embedding("), 2, "the method has no embed"),
        (OWN.replace("self.num_views = config.num_views", "self.views = 2"), 2, "the method has no num_views"),
        (OWN.replace("return self.contrast(", "return self.nothing("), 6, "AttributeError"),
    ],
)
def test_own_method__one_line_where_it_does_not_fit(text: str, code: int, said: str, clr: Clr, own: Path) -> None:
    own.write_text(text)
    done = clr("pretrain", "--method", own, *SHORT, "--out", "run", cwd=own.parent)
    assert (done.code, said in done.err) == (code, True), done.err
    assert "Traceback" not in done.err
