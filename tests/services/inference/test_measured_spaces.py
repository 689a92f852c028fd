"""The space of a run: measured at the end of its training, kept, used, turned, refused when it is a stranger's."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_runs import SMALL_RUN

from contrastive_cli.core.config import nested
from contrastive_cli.core.errors import DataError, UsageError
from contrastive_cli.core.runs import Run
from contrastive_cli.embeddings.files import Embeddings, read_embeddings, write_embeddings
from contrastive_cli.embeddings.placing import in_space, kind_of, like
from contrastive_cli.embeddings.similarity import cosine_matrix
from contrastive_cli.embeddings.space import enter_space, measure_space
from contrastive_cli.embeddings.space_file import encode_spaces
from contrastive_cli.services.configuration import resolve
from contrastive_cli.services.evaluation.linear_eval import frozen_rows
from contrastive_cli.services.evaluation.rows import open_splits
from contrastive_cli.services.inference.comparison import compared_vectors, comparison_of
from contrastive_cli.services.inference.crops import CROPS, check_crops, pictures_of
from contrastive_cli.services.inference.image_files import embed_paths
from contrastive_cli.services.inference.model import Model, embed_images, embed_pixels, load_model
from contrastive_cli.services.inference.spaces import FILE, Placement, find_spaces, kept_spaces, placed, placement_of
from contrastive_cli.services.inference.splits import open_split
from contrastive_cli.services.training.loop import train_session
from contrastive_cli.services.training.sessions import start_session

FLAGS = {**SMALL_RUN, "train.epochs": 1, "train.batch_size": 128}


def train(place: Path, **more: Any) -> Run:
    flags = FLAGS | {key.replace("__", "."): value for key, value in more.items()}
    session = start_session(
        resolve(config=None, sets={}, flags=nested(flags)).config, out=place / "run", overwrite=False
    )
    for _ in train_session(session):
        pass
    return session.run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Of the digits: 1,438 training images, h of 16 numbers and z of 128."""
    return load_model(train(tmp_path_factory.mktemp("space")), device="cpu")


def test_train_session__leaves_the_space_of_its_last_checkpoint(model: Model) -> None:
    spaces = kept_spaces(model)
    assert spaces is not None
    assert spaces.checkpoint == model.checkpoint
    assert {layer: space.width for layer, space in spaces.layers.items()} == {"h": 16, "z": 128}
    images = open_split(model, "train")
    expected = measure_space(embed_pixels(model, images.images), exponent=spaces.layers["h"].exponent)
    assert np.array_equal(spaces.layers["h"].axes, expected.axes)
    measured = {name: value for name, value in spaces.contrasts.items() if name.startswith("h ")}
    best = max((name for name in measured if name != "h raw"), key=lambda name: measured[name])
    assert best == f"h {spaces.layers['h'].exponent:g}"
    assert (spaces.kind == "whitened") == (measured[best] > measured["h raw"])


def test_find_spaces__measures_a_run_of_before_once(model: Model, caplog: pytest.LogCaptureFixture) -> None:
    kept = kept_spaces(model)
    run, artifacts = model.run, model.manifest.artifacts
    content = (run.path / FILE).read_bytes()
    try:
        (run.path / FILE).unlink()
        before = replace(model, manifest=run.update(artifacts={k: v for k, v in artifacts.items() if k != FILE}))
        with caplog.at_level(logging.INFO, "contrastive_cli"):
            found = find_spaces(before)
        assert [line for line in caplog.messages if "has no space yet" in line]
        assert (run.path / FILE).read_bytes() == content
        assert found is not None
        assert kept is not None
        assert found.facts() == kept.facts()
        caplog.clear()
        again = load_model(run, device="cpu")
        assert find_spaces(again) is not None
        assert not caplog.messages
    finally:
        (run.path / FILE).write_bytes(content)
        run.update(artifacts=artifacts)


def test_kept_spaces__leaves_a_strangers_file_aside(model: Model) -> None:
    file = model.run.path / FILE
    content = file.read_bytes()
    try:
        for damaged in (content[:-1], content[:100] + b"\0" + content[101:], b"", content + b"x"):
            file.write_bytes(damaged)
            assert kept_spaces(model) is None
        spaces = kept_spaces_of(content)
        file.write_bytes(encode_spaces(replace(spaces, checkpoint="f" * 64)))  # of another training
        other = replace(model, manifest=entered(model.run))
        assert kept_spaces(other) is None
        file.unlink()
        file.symlink_to("/etc/hostname")
        assert kept_spaces(model) is None
    finally:
        file.unlink()
        file.write_bytes(content)
        entered(model.run)


def kept_spaces_of(content: bytes) -> Any:
    from contrastive_cli.embeddings.space_file import decode_spaces

    return decode_spaces(content)


def entered(run: Run) -> Any:
    """The manifest after the file as it is was entered."""
    run.add_artifact(run.path / FILE, kind="space")
    return run.manifest()


def test_placed__enters_the_space_of_the_run_and_says_so(model: Model, tmp_path: Path) -> None:
    where = placement_of(model, kind="whitened")
    assert where.space is not None
    raw = embed_images(model, open_split(model, "test"))
    whitened = placed(raw, where)
    assert kind_of(whitened) == "whitened"
    assert whitened.model["exponent"] == where.space.exponent
    assert np.array_equal(whitened.vectors, enter_space(raw.vectors, where.space))
    for suffix in (".pkl", ".npz", ".safetensors", ".parquet"):
        write_embeddings(tmp_path / f"x{suffix}", whitened)
        read = read_embeddings(tmp_path / f"x{suffix}")
        assert np.array_equal(read.vectors, whitened.vectors)
        back = in_space(read, "raw")
        assert kind_of(back) == "raw"
        np.testing.assert_allclose(back.vectors, raw.vectors, atol=1e-4 * np.abs(raw.vectors).max())
        again = in_space(back, "whitened")
        np.testing.assert_allclose(cosine_matrix(again.vectors[:20]), cosine_matrix(read.vectors[:20]), atol=1e-3)


def test_placed__a_raw_file_carries_the_axes_too(model: Model) -> None:
    where = placement_of(model, kind="raw")
    raw = placed(embed_images(model, open_split(model, "test")), where)
    assert kind_of(raw) == "raw"
    assert kind_of(in_space(raw, "whitened")) == "whitened"


def test_in_space__refuses_without_axes() -> None:
    bare = Embeddings(vectors=np.ones((3, 2), np.float32))
    with pytest.raises(DataError, match="carry no axes"):
        in_space(bare, "whitened")


def test_like__turns_what_was_measured_on_other_images() -> None:
    generator = np.random.default_rng(0)
    rows = np.asarray(generator.standard_normal((300, 6)) * [4, 3, 2, 1, 1, 1], np.float32)
    spaces = [measure_space(part, exponent=1.0) for part in (rows[:150], rows[150:] * 2)]
    files = [
        Embeddings(vectors=enter_space(rows[:9], space), space=space, model={"space": "whitened", "exponent": 1.0})
        for space in spaces
    ]
    turned = like(files[1], files[0])
    np.testing.assert_allclose(turned.vectors, files[0].vectors, atol=1e-4)


@pytest.mark.parametrize("damage", [{"exponent": "x"}, {"exponent": 99}, {}])
def test_read_embeddings__refuses_a_space_that_is_none(damage: dict[str, Any], tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    space = measure_space(rows, exponent=1.0)
    facts = {"space": "raw", "exponent": 1.0, **damage}
    write_embeddings(tmp_path / "x.npz", Embeddings(vectors=rows, space=space, model=facts))
    if not damage:
        values = dict(np.load(tmp_path / "x.npz"))
        np.savez(tmp_path / "x.npz", **(values | {"space_axes": values["space_axes"] * np.nan}))
    with pytest.raises(DataError, match="space"):
        read_embeddings(tmp_path / "x.npz")


def test_placed__measures_on_the_images_themselves_where_no_others_are(caplog: pytest.LogCaptureFixture) -> None:
    generator = np.random.default_rng(0)
    rows = np.repeat(np.eye(8), 20, axis=0) + 0.1 * generator.standard_normal((160, 8))
    rows[:, 0] += 10 * generator.standard_normal(160)
    many = Embeddings(vectors=rows.astype(np.float32), model={"layer": "h", "space": "raw"})
    with caplog.at_level(logging.INFO, "contrastive_cli"):
        found = placed(many, Placement(kind=None))
    assert kind_of(found) == "whitened"
    assert ["measured on the 160 images" in line for line in caplog.messages] == [True]
    few = replace(many, vectors=many.vectors[:20])
    assert kind_of(placed(few, Placement(kind=None))) == "raw"
    with pytest.raises(UsageError, match="too few"):
        placed(few, Placement(kind="whitened"))


def test_frozen_rows__heads_see_both_spaces(model: Model) -> None:
    splits = open_splits(model)
    common: dict[str, Any] = {"heads": ["linear", "knn"], "fractions": [1.0], "seeds": 1}
    rows = list(frozen_rows(model, splits, baselines=["random"], **common))
    assert [(row.features, row.head) for row in rows] == [
        *((name, head) for name in ("pretrained", "pretrained whitened") for head in ("linear", "knn")),
        *(("random", head) for head in ("linear", "knn")),
        ("random whitened", "knn"),
    ]
    only = list(frozen_rows(model, splits, baselines=[], kind="whitened", crops=2, **common))
    assert {row.features for row in only} == {"pretrained whitened"}


def test_compared_vectors__whitened_cosines_are_those_of_the_space(model: Model) -> None:
    pixels = np.asarray(open_split(model, "test").images[:5])
    spaces = kept_spaces(model)
    assert spaces is not None
    how = comparison_of(model, layer="h", average="none", space="whitened")
    expected = enter_space(embed_pixels(model, pixels), spaces.layers["h"])
    assert np.array_equal(compared_vectors(model, pixels, how), expected)
    assert how.name == "h-whitened"
    assert comparison_of(model, layer="h", average=None).space == spaces.kind


def test_pictures_of__counts_what_crops_promise() -> None:
    pixels = np.arange(2 * 3 * 32 * 32, dtype=np.int64).astype(np.uint8).reshape(2, 3, 32, 32)
    assert [len(pictures_of(pixels, crops=crops, mirror=True)) for crops in CROPS] == list(CROPS)
    pictures = pictures_of(pixels, crops=15, mirror=True)
    assert np.array_equal(pictures[1], pixels[..., ::-1])
    assert [picture.shape[-1] for picture in pictures] == [32, 32, *[28] * 4, *[24] * 9]
    assert np.array_equal(pictures[5], pixels[..., 4:, 4:])  # the last of the four corners
    assert np.array_equal(pictures[10], pixels[..., 4:28, 4:28])  # the middle of the nine
    assert len(pictures_of(pixels, crops=6, mirror=False)) == 5
    with pytest.raises(UsageError, match="--crops 3"):
        check_crops(3)


def test_embed_pixels__with_crops_is_the_mean_over_pictures(model: Model) -> None:
    pixels = np.asarray(open_split(model, "test").images[:4])
    pictures = pictures_of(pixels, crops=6, mirror=model.config.views.flip_probability > 0)
    expected = np.mean([embed_pixels(model, picture).astype(float) for picture in pictures], axis=0)
    np.testing.assert_allclose(embed_pixels(model, pixels, crops=6), expected, atol=1e-6)


def test_embed_paths__one_file_lies_where_it_lies_among_others(model: Model, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for file in files:
        Image.fromarray(generator.integers(0, 256, (16, 16), dtype=np.uint8)).save(file)
    where = placement_of(model, kind="whitened")
    together = placed(embed_paths(model, files)[0], where)
    alone = placed(embed_paths(model, files[1:2])[0], where)
    np.testing.assert_allclose(alone.vectors[0], together.vectors[1], rtol=1e-4, atol=1e-4)
