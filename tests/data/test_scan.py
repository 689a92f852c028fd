from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastive_cli.core.errors import DataError
from contrastive_cli.data.scan import (
    relative_names,
    scan_tree,
    split_by_name,
    stratified_split,
)


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def relative(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in scan_tree(root).files]


def test_scan_tree__sorted_recursive_and_by_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "b/2.JPG", "b/1.jpeg", "a/x/y/3.PnG", "0.tiff", "a/notes.txt", "a/noext", "c.webp")
    assert relative(tmp_path) == ["0.tiff", "a/x/y/3.PnG", "b/1.jpeg", "b/2.JPG", "c.webp"]


def test_scan_tree__hidden_and_system_files_are_skipped(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "._a.png", ".hidden.png", "Thumbs.db", ".DS_Store", ".git/b.png", "__MACOSX/a.png")
    assert relative(tmp_path) == ["a.png"]


def test_scan_tree__symlink_loop_ends_and_counts_once(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.png", "dog/2.png")
    (tmp_path / "cat" / "loop").symlink_to(tmp_path)
    (tmp_path / "dog" / "self").symlink_to("self")
    (tmp_path / "dangling").symlink_to("absent.png")
    assert relative(tmp_path) == ["cat/1.png", "dog/2.png"]


def test_scan_tree__a_broken_link_to_a_picture_is_one_that_cannot_be_decoded(tmp_path: Path) -> None:
    touch(tmp_path, "1.png")
    (tmp_path / "gone.png").symlink_to("absent.png")
    (tmp_path / "itself.JPG").symlink_to("itself.JPG")
    (tmp_path / "gone.txt").symlink_to("absent.txt")
    assert relative(tmp_path) == ["1.png", "gone.png", "itself.JPG"]
    assert [other.path for other in scan_tree(tmp_path).others] == ["gone.txt"]


def test_scan_tree__diamond_keeps_the_real_name(tmp_path: Path) -> None:
    touch(tmp_path, "z_real/1.png")
    (tmp_path / "a_link").symlink_to(tmp_path / "z_real")
    (tmp_path / "b_link").symlink_to(tmp_path / "z_real")
    assert relative(tmp_path) == ["z_real/1.png"]


def test_scan_tree__links_to_outside_are_followed(tmp_path: Path) -> None:
    touch(tmp_path, "outside/deep/1.png", "outside/2.png", "root/3.png")
    (tmp_path / "root" / "folder").symlink_to(tmp_path / "outside")
    (tmp_path / "root" / "file.png").symlink_to(tmp_path / "outside" / "2.png")
    assert relative(tmp_path / "root") == ["3.png", "file.png", "folder/2.png", "folder/deep/1.png"]


def test_scan_tree__only_regular_files(tmp_path: Path, time_limit: None) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    touch(tmp_path, "folder.png/1.png")
    assert relative(tmp_path) == ["folder.png/1.png"]


def test_scan_tree__unreadable_folder_is_reported_and_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a/1.png", "locked/2.png", "z/3.png")
    scandir = os.scandir

    def refuse(path: str) -> Iterator[os.DirEntry[str]]:
        if os.fspath(path).endswith("locked"):  # chmod does not stop root, so the system call is made to fail
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = scan_tree(tmp_path)
    assert [path.name for path in found.files] == ["1.png", "3.png"]
    assert [f"{folder.path} {folder.reason}" for folder in found.unreadable] == ["locked Permission denied"]


def test_scan_tree__weird_names(tmp_path: Path) -> None:
    names = [
        b"a\nb.png",
        b"\xff\xfe.png",
        b"[red]x.png",
        b"-x.png",
        b"=1+1.png",
        "\U0001f600.png".encode(),
        b"<b>.png",
    ]
    names.append(b"l" * 251 + b".png")
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(b"x")
    assert {os.fsencode(path.name) for path in scan_tree(tmp_path).files} == set(names)


def test_scan_tree__what_is_no_folder(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    for path in (tmp_path / "a.png", tmp_path / "absent"):
        with pytest.raises(DataError, match="cannot list folder"):
            scan_tree(path)


def test_scan_tree__order_does_not_depend_on_creation(tmp_path: Path) -> None:
    names = [f"{folder}/{number}.png" for folder in "ab" for number in range(20)]
    touch(tmp_path / "first", *names)
    touch(tmp_path / "second", *names[::-1])
    assert relative(tmp_path / "first") == relative(tmp_path / "second") == sorted(names)


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(-1, 6), max_size=120),
    seed=st.integers(0, 2**32),
    fraction=st.floats(0.01, 0.5),
)
def test_stratified_split__each_class_gives_its_share(labels: list[int], seed: int, fraction: float) -> None:
    array = np.array(labels, dtype=np.int64)
    train, test = stratified_split(array, seed=seed, test_fraction=fraction)
    assert sorted([*train, *test]) == list(range(len(labels)))
    for label in set(labels):
        count = int((array == label).sum())
        in_test = int((array[test] == label).sum())
        assert abs(in_test - (count * fraction if count > 1 else 0)) < 1 + 1e-6
        assert in_test < count


def test_stratified_split__seed_decides() -> None:
    labels = np.arange(1000) % 10
    first, again = (stratified_split(labels, seed=3)[1] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, stratified_split(labels, seed=4)[1])
    np.testing.assert_array_equal(np.bincount(labels[first]), np.full(10, 20))


def test_stratified_split__is_the_same_for_ever() -> None:
    # A change here would move samples between train and test of earlier runs.
    assert stratified_split(np.zeros(20, dtype=np.int64), seed=0)[1].tolist() == [4, 8, 9, 15]


def test_stratified_split__ten_thousand_classes_with_singletons() -> None:
    labels = np.repeat(np.arange(10_000), np.arange(10_000) % 4 + 1)
    train, test = stratified_split(labels, seed=0)
    assert set(labels[train]) == set(range(10_000))
    assert abs(len(test) - 0.2 * (len(labels) - 2500)) <= 1


def test_stratified_split__without_labels_is_random_and_exact() -> None:
    _, test = stratified_split(np.full(1000, -1), seed=0)
    assert len(test) == 200
    assert len(set(np.diff(test).tolist())) > 5


def test_stratified_split__fraction_out_of_range() -> None:
    with pytest.raises(ValueError, match="test_fraction"):
        stratified_split(np.zeros(4, dtype=np.int64), seed=0, test_fraction=0.6)


@pytest.mark.parametrize(
    ("root", "file"), [(".", "a/b.png"), ("x", "x/a/b.png"), ("/", "/a/b.png"), ("../x", "../x/a/b.png")]
)
def test_relative_names__equals_pathlib(root: str, file: str) -> None:
    assert relative_names([Path(file)], Path(root)) == [Path(file).relative_to(root).as_posix()] == ["a/b.png"]


def test_relative_names__outside() -> None:
    with pytest.raises(ValueError, match="not below"):
        relative_names([Path("xy/a.png")], Path("x"))


def test_scan_tree__relative_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "cat/1.png")
    monkeypatch.chdir(tmp_path)
    assert scan_tree(Path()).files == [Path("cat/1.png")]


def test_split_by_name__shares_and_what_it_depends_on() -> None:
    parts = [split_by_name(f"person {number}", seed=0) for number in range(5000)]
    shares = [parts.count(part) / len(parts) for part in ("train", "val", "test")]
    np.testing.assert_allclose(shares, [0.6, 0.1, 0.3], atol=0.025)
    assert parts != [split_by_name(f"person {number}", seed=1) for number in range(5000)]
    assert split_by_name("Aaron_Peirsol", seed=0) == "train"  # must stay: runs are judged on who was not in train
    split_by_name("\udcff", seed=0)  # a name that is no UTF-8
