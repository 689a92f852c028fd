"""What commands say of a folder, as typed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from clr_process import TINY, Clr
from PIL import Image

PAGE = Path(__file__).parents[2] / "docs" / "folders.md"


def paint(folder: Path, count: int) -> None:
    """Noise pictures."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(count)
    for number in range(count):
        Image.fromarray(generator.integers(0, 256, (32, 32), dtype=np.uint8)).save(folder / f"{number:02d}.png")


def test_embed__says_how_a_folder_was_read(clr: Clr, trained: Path, tmp_path: Path) -> None:
    run = ["--run", str(trained / "runs" / "small")]
    for split, count in (("Training", 6), ("Testing", 2)):
        for name in ("cat", "dog"):
            paint(tmp_path / "photos" / split / name, count)
    (tmp_path / "photos" / "clip.mp4").write_bytes(b"x")
    said = clr("embed", "photos", *run, "--json", cwd=tmp_path)
    assert said.code == 0, said.err
    lines = said.err.splitlines()
    assert "photos: 2 classes (cat, dog); train 12 pictures from Training/, test 4 pictures from Testing/" in lines
    assert "not used in photos: 1 file (1 .mp4)" in lines
    assert (said.json["count"], said.json["not_used"]) == (16, 1)
    assert "photos:" not in clr("embed", "photos", *run, "--quiet", cwd=tmp_path).err


def test_embed__stops_at_a_doubtful_folder_and_says_what_to_type(clr: Clr, trained: Path, tmp_path: Path) -> None:
    run = ["--run", str(trained / "runs" / "small")]
    for name in ("cat", "dog", "test"):
        paint(tmp_path / "photos" / name, 2)
    stopped = clr("embed", "photos", *run, cwd=tmp_path)
    assert (stopped.code, "test can be a split or a class" in stopped.err) == (3, True)
    assert "--layout classes" in stopped.err
    settled = clr("embed", "photos", *run, "--layout", "classes", cwd=tmp_path)
    assert (settled.code, "3 classes (cat, dog, test)" in settled.err) == (0, True)
    assert clr("embed", "photos", *run, "--layout", "splits", cwd=tmp_path).code == 2


def test_pretrain__of_a_file_of_ones_own(clr: Clr, tmp_path: Path) -> None:
    (tmp_path / "my_data.py").write_text(PAGE.read_text().partition("```python\n")[2].partition("```")[0])
    tiny = [*TINY, "--epochs", "1", "--batch-size", "16", "--out", "runs/noise"]
    trained = clr("pretrain", "--dataset", "my_data.py", *tiny, cwd=tmp_path)
    assert trained.code == 0, trained.err
    unnamed = clr("embed", "--run", "noise", cwd=tmp_path)
    assert (unnamed.code, f"add --dataset {tmp_path / 'my_data.py'}" in unnamed.err) == (2, True)
    assert clr("embed", "--run", "noise", "--dataset", "my_data.py", cwd=tmp_path).code == 0
