"""Tables about images: how they are joined, what becomes of their columns, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from contrastive_cli.core.errors import DataError
from contrastive_cli.services.figures.metadata import read_metadata
from contrastive_cli.viz.embedding_map import Names, Numbers

PATHS = ("x/a.jpg", "x/b.jpg", "y/=c.jpg")


def table(tmp_path: Path, content: str | bytes) -> Path:
    file = tmp_path / "meta.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def names_of(column: object) -> list[str | None]:
    assert isinstance(column, Names)
    return [None if code < 0 else column.names[code] for code in column.codes]


def test_read_metadata__joins_by_path_in_any_order(tmp_path: Path) -> None:
    file = table(tmp_path, "camera,path,height,stars\nphone,x/b.jpg,1.5,10\nreflex,x/a.jpg,,2\n,zzz,9,9\n")
    columns, note = read_metadata(file, paths=PATHS)
    assert list(columns) == ["camera", "height", "stars"]
    assert names_of(columns["camera"]) == ["reflex", "phone", None]
    height = columns["height"]
    assert isinstance(height, Numbers)
    assert np.array_equal(height.values, np.array([np.nan, 1.5, np.nan], np.float32), equal_nan=True)
    stars = columns["stars"]
    assert names_of(stars) == ["2", "10", None]
    assert isinstance(stars, Names)
    assert stars.names == ("2", "10")  # in the order of numbers
    assert note == "1 of 3 images are not in meta.csv"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_read_metadata__any_spreadsheet(tmp_path: Path, delimiter: str) -> None:
    lines = [["image", "note"], ["a.jpg", "first"], ["b.jpg", "second"], ["'=c.jpg", "third"]]
    file = table(tmp_path, "\ufeff" + "\r\n".join(delimiter.join(line) for line in lines))
    columns, note = read_metadata(file, paths=("a.jpg", "b.jpg", "=c.jpg"))
    assert (names_of(columns["note"]), note) == (["first", "second", "third"], "")


def test_read_metadata__file_names_where_paths_differ_and_they_are_unique(tmp_path: Path) -> None:
    file = table(tmp_path, "file,kind\n/elsewhere/a.jpg,1st\nC:\\photos\\b.jpg,2nd\nq/a2.jpg,x\nr/a2.jpg,y\n")
    columns, _ = read_metadata(file, paths=("x/a.jpg", "x/b.jpg", "x/a2.jpg"))
    assert names_of(columns["kind"]) == ["1st", "2nd", None]


def test_read_metadata__as_much_of_the_paths_as_both_have(tmp_path: Path) -> None:
    file = table(tmp_path, "path,kind\nsea/0.jpg,1st\ncity/0.jpg,2nd\nhills/0.jpg,3rd\n")
    columns, note = read_metadata(file, paths=("/home/me/photos/city/0.jpg", "photos/sea/0.jpg", "photos/land/0.jpg"))
    assert names_of(columns["kind"]) == ["2nd", "1st", None]
    assert note == "1 of 3 images are not in meta.csv"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "needs a line of column names"),
        ("path\nx/a.jpg\n", "needs a line of column names"),
        ("path,a,a\nx/a.jpg,1,2\n", "two columns named 'a'"),
        ("path,a\nx/a.jpg,1,2\n", "row 2 has 3 cells"),
        ("path,a\nother.jpg,1\n", "names none of the 3 images"),
        (b"\xff\xfe\x00", "no CSV file in UTF-8"),
        ('path,a\n"x/a.jpg,1\n', "no CSV file"),
    ],
)
def test_read_metadata__what_is_no_table_is_refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_metadata(table(tmp_path, content), paths=PATHS)


def test_read_metadata__absent_file_and_nameless_embeddings(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read"):
        read_metadata(tmp_path / "none.csv", paths=PATHS)
    with pytest.raises(DataError, match="name no images"):
        read_metadata(table(tmp_path, "path,a\nx,1\n"), paths=None)
