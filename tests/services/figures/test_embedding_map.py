"""The map as a value: neighbors and similarities, two files brought together, pictures from where they are."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contrastive_cli.core.errors import DataError
from contrastive_cli.embeddings.files import Embeddings, write_embeddings
from contrastive_cli.services.figures.embedding_map import (
    Mapped,
    embeddings_to_plot,
    plot_embeddings,
    project_embeddings,
)
from contrastive_cli.services.figures.pictures import find_pictures

HOSTILE = ('"><img src=x onerror=alert(1)>.png', "=cmd.png", "plain.png", "sub/\u732b.png")


def embeddings(count: int = 12, *, seed: int = 0, paths: tuple[str, ...] | None = None) -> Embeddings:
    vectors = np.random.default_rng(seed).normal(size=(count, 6)).astype(np.float32)
    names = tuple(f"{number:02d}.png" for number in range(count)) if paths is None else paths
    return Embeddings(vectors=vectors, labels=np.arange(count) % 3, classes=("a", "b", "c"), paths=names)


def test_project_embeddings__neighbors_are_rows_of_the_map_by_cosine() -> None:
    whole = embeddings(30)
    chosen = np.arange(3, 30, 2)
    shown = project_embeddings(
        Mapped(embeddings=whole, file=Path("f.npz")), chosen, projections=["pca"], num_neighbors=4, seed=0
    )
    unit = whole.vectors[chosen] / np.linalg.norm(whole.vectors[chosen], axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -2)
    expected = np.argsort(-cosines, axis=1)[:, :4]
    assert shown.neighbors is not None
    assert np.array_equal(shown.neighbors, expected)
    np.testing.assert_allclose(shown.similarities, np.take_along_axis(cosines, expected, axis=1), atol=1e-6)  # type: ignore[arg-type]
    assert shown.paths == tuple(f"{number:02d}.png" for number in chosen)
    assert (shown.total, shown.source) == (30, "f.npz")


def test_project_embeddings__more_neighbors_change_no_layout() -> None:
    mapped, chosen = Mapped(embeddings=embeddings(60), file=Path("f.npz")), np.arange(60)
    plain, near = (
        project_embeddings(mapped, chosen, projections=["tsne", "pca"], num_neighbors=k, seed=0) for k in (0, 59)
    )
    assert plain.neighbors is None
    for kind, points in plain.coordinates.items():
        assert np.array_equal(points, near.coordinates[kind])


def test_embeddings_to_plot__two_files_share_images_in_one_order(tmp_path: Path) -> None:
    first, second = embeddings(12), embeddings(10, seed=1, paths=tuple(f"{n:02d}.png" for n in range(11, 1, -1)))
    files = [tmp_path / "a.npz", tmp_path / "b.npz"]
    for file, content in zip(files, (first, second), strict=True):
        write_embeddings(file, content)
    a, b = embeddings_to_plot(None, files=files, split="test", data_dir=None, device="cpu")
    assert a.embeddings.paths == b.embeddings.paths == tuple(f"{n:02d}.png" for n in range(2, 12))
    assert np.array_equal(b.embeddings.vectors, second.vectors[::-1])
    assert b.embeddings.labels is not None
    assert np.array_equal(b.embeddings.labels, a.embeddings.labels)  # type: ignore[arg-type]


def test_embeddings_to_plot__files_of_other_images_are_refused(tmp_path: Path) -> None:
    files = [tmp_path / "a.npz", tmp_path / "b.npz"]
    write_embeddings(files[0], embeddings(5))
    write_embeddings(files[1], embeddings(5, paths=tuple("vwxyz")))
    with pytest.raises(DataError, match="no images in common"):
        embeddings_to_plot(None, files=files, split="test", data_dir=None, device="cpu")


def test_plot_embeddings__the_second_map_is_turned_like_the_first(tmp_path: Path) -> None:
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(6, 6)))[0].astype(np.float32)
    first = embeddings(40)
    mapped = [
        Mapped(embeddings=first, file=Path("a.npz")),
        Mapped(embeddings=Embeddings(vectors=first.vectors @ turn, paths=first.paths), file=Path("b.npz")),
    ]
    targets, note = plot_embeddings(
        mapped, run=None, out=tmp_path / "map.html", projections=["pca"], classes=None, limit=None, seed=0
    )
    page = targets[0].read_text()
    points = page.split('"points":"')[1:]
    first_points, second_points = (part.partition('"')[0] for part in points)
    a, b = (np.frombuffer(base64.b64decode(text), np.float32).reshape(-1, 2) for text in (first_points, second_points))
    np.testing.assert_allclose(b - b.mean(axis=0), a - a.mean(axis=0), atol=1e-3)
    assert "dots only" in note


def test_find_pictures__files_beside_the_embeddings_hostile_names_too(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for number, name in enumerate(HOSTILE):
        Image.new("RGB", (60, 50), (10, 60 * number, 200)).save(tmp_path / name, format="PNG")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    content = embeddings(6, paths=(*HOSTILE, "broken.png", "gone\x00.png"))
    thumbnails, note = find_pictures(
        content, np.arange(6), images=None, file=tmp_path / "e.npz", run=None, data_dir=None
    )
    assert thumbnails is not None
    assert thumbnails.present.tolist() == [True] * 4 + [False] * 2
    assert thumbnails.pixels[2, :, 20, 20].tolist() == [10, 120, 200]
    assert note == "2 of 6 pictures cannot be read"


def test_find_pictures__none_is_said(tmp_path: Path) -> None:
    thumbnails, note = find_pictures(
        embeddings(4), np.arange(4), images=None, file=tmp_path / "e.npz", run=None, data_dir=None
    )
    assert thumbnails is None
    assert note == "dots only, without pictures: no image of the file's names, such as '00.png', is on this disk"
