"""Shards of embeddings: those of one file, gone on with after an end, refused where something else lies."""

from __future__ import annotations

import itertools
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from contrastive_cli.core.choices import SpaceKind
from contrastive_cli.core.errors import DataError, RunError
from contrastive_cli.core.runs import Run
from contrastive_cli.embeddings.files import read_embeddings
from contrastive_cli.embeddings.placing import kind_of
from contrastive_cli.embeddings.shard_index import FolderIndex, read_index, shard_file
from contrastive_cli.services.inference.embedding_shards import LOCK_FILE, ShardPlan, embed_in_shards, plan_shards
from contrastive_cli.services.inference.image_files import FILES_AT_ONCE, embed_paths
from contrastive_cli.services.inference.model import Model, embed_images, load_model
from contrastive_cli.services.inference.named_images import NamedImages, images_at_once
from contrastive_cli.services.inference.spaces import Placement, placed, placement_of
from contrastive_cli.services.inference.splits import open_split

PLAN = ShardPlan(rows=512, count=1438)  # a multiple of the images of a pass


@pytest.fixture(scope="module")
def model(trained: Path) -> Model:
    return load_model(Run(trained / "runs/small"), device="cpu")


@pytest.fixture(scope="module")
def digits(model: Model) -> NamedImages:
    return NamedImages(split=open_split(model, "train"))


def embed(folder: Path, model: Model, images: NamedImages, **changes: Any) -> FolderIndex:
    arguments: dict[str, Any] = {"plan": PLAN, "overwrite": False, "max_bad": None, **changes}
    return embed_in_shards(folder, model, images, arguments.pop("where", Placement()), **arguments)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != LOCK_FILE}


def stop_at(images: int) -> Any:
    def progress(done: int, total: int) -> None:
        assert total == PLAN.count
        if done > images:
            raise KeyboardInterrupt

    return progress


def test_plan_shards__are_cut_where_passes_are(model: Model, digits: NamedImages, tmp_path: Path) -> None:
    each = images_at_once(model, digits)
    num_bytes = 8 * each * 32 * 4  # of eight shards of a pass of 32 numbers
    assert 512 % each == 0
    assert plan_shards(model, digits, layer="h", max_file=num_bytes) == ShardPlan(rows=each, count=1438)
    assert plan_shards(model, digits, layer="h", max_file=2 * num_bytes + 5).rows == 2 * each
    assert plan_shards(model, digits, layer="h", max_file=1).rows == each
    assert plan_shards(model, digits, layer="z", max_file=4 * num_bytes).rows == each  # of 128 numbers
    files = NamedImages(files=(tmp_path / "x.png",))
    assert plan_shards(model, files, layer="h", max_file=1).rows == FILES_AT_ONCE
    assert [PLAN.rows_of(number) for number in range(PLAN.num_shards)] == [
        slice(0, 512),
        slice(512, 1024),
        slice(1024, 1438),
    ]


def test_embed_in_shards__are_the_rows_of_one_file(model: Model, digits: NamedImages, tmp_path: Path) -> None:
    where = placement_of(model)
    index = embed(tmp_path / "x", model, digits, where=where)
    assert (index.finished, index.rows) == (True, 1438)
    assert digits.split is not None
    expected = placed(embed_images(model, digits.split), where)
    found = read_embeddings(tmp_path / "x")
    for name in ("vectors", "labels", "indices"):
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name
    for name in ("paths", "classes", "model", "preprocess", "dataset", "uncertainty"):
        assert getattr(found, name) == getattr(expected, name), name


def test_embed_in_shards__goes_on_with_what_is_whole(model: Model, digits: NamedImages, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    embed(whole, model, digits)
    with pytest.raises(KeyboardInterrupt):
        embed(cut, model, digits, progress=stop_at(1024))
    index = read_index(cut)
    assert (index.finished, [shard.number for shard in index.shards]) == (False, [0, 1])
    (cut / shard_file(0)).write_bytes(b"damaged")
    (cut / ".shard-00002.parquet.killed.abcd.tmp-clr").write_bytes(b"begun")
    os.utime(cut / shard_file(1), (1, 1))
    seen: list[int] = []
    embed(cut, model, digits, progress=lambda done, total: seen.append(done))
    assert contents(cut) == contents(whole)
    assert (cut / shard_file(1)).stat().st_mtime == 1  # which was not made again
    assert not any(512 < done <= 1024 for done in seen)


def test_embed_in_shards__what_is_finished_is_left(model: Model, digits: NamedImages, tmp_path: Path) -> None:
    embed(tmp_path, model, digits)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir() if file.name != LOCK_FILE}
    for overwrite in (False, True):
        again = embed(tmp_path, model, digits, overwrite=overwrite, progress=stop_at(0))
        assert again.finished
        assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir() if file.name != LOCK_FILE} == before


def test_embed_in_shards__another_origin_is_refused(model: Model, digits: NamedImages, tmp_path: Path) -> None:
    embed(tmp_path, model, digits)
    before = contents(tmp_path)
    test = NamedImages(split=open_split(model, "test"))
    for images, where, said in (
        (digits, Placement(layer="z"), "embeddings of another layer: h"),
        (digits, Placement(kind="whitened"), "embeddings of another space: raw"),
        (digits, Placement(crops=2), "embeddings of another crops: 1"),
        (test, Placement(), "embeddings of digits train"),
        (NamedImages(files=(Path("x.png"),)), Placement(), "embeddings of digits train"),
    ):
        plan = replace(PLAN, count=images.count)
        if images.files:
            (tmp_path.parent / "x.png").write_bytes(b"x")
            images = replace(images, files=(tmp_path.parent / "x.png",))
        with pytest.raises(RunError, match=said):
            embed(tmp_path, model, images, where=where, plan=plan)
    assert contents(tmp_path) == before
    index = embed(tmp_path, model, test, plan=replace(PLAN, count=test.count), overwrite=True)
    assert index.rows == test.count
    assert set(contents(tmp_path)) == {"index.json", "shard-00000.parquet"}


def test_embed_in_shards__other_files_are_left_alone(model: Model, digits: NamedImages, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(RunError, match="holds other files than shards of embeddings"):
            embed(tmp_path, model, digits, overwrite=overwrite)
    with pytest.raises(RunError, match="is a file, and shards need a folder"):
        embed(tmp_path / "letter.txt", model, digits)
    assert contents(tmp_path) == {"letter.txt": b"mine"}
    (tmp_path / "letter.txt").rename(tmp_path / "index.json")
    with pytest.raises(RunError, match="holds something else than embeddings"):
        embed(tmp_path, model, digits)


def test_embed_in_shards__two_at_once_are_refused(model: Model, digits: NamedImages, tmp_path: Path) -> None:
    said: list[RunError] = []

    def progress(done: int, total: int) -> None:
        if not said:
            with pytest.raises(RunError, match="is being filled by another process") as refused:
                embed(tmp_path / "shards", model, digits, overwrite=True)
            said.append(refused.value)

    done = embed(tmp_path / "shards", model, digits, progress=progress)
    assert said
    assert len(done.shards) == PLAN.num_shards
    assert embed(tmp_path / "shards", model, digits) == done


def paint(folder: Path, count: int) -> tuple[Path, ...]:
    generator = np.random.default_rng(0)
    folder.mkdir()
    files = tuple(folder / f"{number:04}.png" for number in range(count))
    for file in files:
        Image.fromarray(generator.integers(0, 256, (8, 8), dtype=np.uint8)).save(file)
    return files


def test_embed_in_shards__files_some_of_which_are_broken(model: Model, tmp_path: Path) -> None:
    files = paint(tmp_path / "photos", FILES_AT_ONCE + 40)
    for broken in (5, *range(FILES_AT_ONCE, FILES_AT_ONCE + 40)):  # the whole second shard
        files[broken].write_bytes(b"no picture")
    files[-1].unlink()
    files[-1].symlink_to(tmp_path / "nowhere.png")
    images = NamedImages(files=files)
    plan = plan_shards(model, images, layer="h", max_file=1)
    index = embed(tmp_path / "x", model, images, plan=plan)
    assert [(shard.rows, len(shard.left_out)) for shard in index.shards] == [(FILES_AT_ONCE - 1, 1), (0, 40)]
    found, (expected, _) = read_embeddings(tmp_path / "x"), embed_paths(model, files)
    assert found.paths == expected.paths
    assert np.array_equal(found.vectors, expected.vectors)

    with pytest.raises(DataError, match="41 of 296 files cannot be used"):
        embed(tmp_path / "strict", model, images, plan=plan, max_bad=0.1)
    assert not read_index(tmp_path / "strict").finished
    files[5].write_bytes(files[6].read_bytes())  # other images of the same origin: all is made anew
    again = embed(tmp_path / "x", model, images, plan=plan)
    assert again.rows == FILES_AT_ONCE
    assert [file.name for file in (tmp_path / "x").glob("*.parquet")] == ["shard-00000.parquet"]


def test_embed_in_shards__no_image_can_be_read(model: Model, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"no picture")
    images = NamedImages(files=(tmp_path / "x.png",))
    with pytest.raises(DataError, match=r"cannot read image .*x\.png"):
        embed(tmp_path / "x", model, images, plan=ShardPlan(rows=256, count=1))


@pytest.mark.parametrize("kind", [None, "whitened"])
def test_embed_in_shards__one_space_for_all(
    model: Model, digits: NamedImages, tmp_path: Path, kind: SpaceKind | None
) -> None:
    """Where none is known it is that of images drawn ahead, here all; what is gone on with keeps it."""
    assert digits.split is not None
    where = Placement(kind=kind)
    expected = placed(embed_images(model, digits.split), where)
    embed(tmp_path / "whole", model, digits, where=where)
    found = read_embeddings(tmp_path / "whole")
    assert kind_of(found) == kind_of(expected)
    assert np.array_equal(found.vectors, expected.vectors)
    each = images_at_once(model, digits)
    calls = itertools.count()
    ahead = math.ceil(1438 / each) + 512 // each  # while the space is measured, and for the first shard

    def stop_after(done: int, total: int) -> None:
        if next(calls) == ahead:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed(tmp_path / "cut", model, digits, where=where, progress=stop_after)
    assert len(read_index(tmp_path / "cut").shards) == 1
    embed(tmp_path / "cut", model, digits, where=where)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
