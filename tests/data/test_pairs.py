from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from contrastive_cli.core.errors import DataError
from contrastive_cli.data.pairs import draw_pairs, pairs_csv, read_pairs

LABELS = np.repeat([0, 1, 2, -1], [40, 4, 3, 5])


def test_draw_pairs__half_same_none_twice_and_no_class_decides() -> None:
    positions, same = draw_pairs(LABELS, count=30, seed=0)
    assert (len(positions), int(same.sum())) == (30, 15)
    assert len({tuple(pair) for pair in positions.tolist()}) == 30
    classes = LABELS[positions]
    assert (classes >= 0).all()
    np.testing.assert_array_equal(classes[:, 0] == classes[:, 1], same)
    assert np.bincount(classes[same, 0]).tolist() == [6, 6, 3]  # the last has only three pairs
    assert set(map(tuple, classes[~same].tolist())) == {(0, 1), (0, 2), (1, 2)}
    assert 8 < np.count_nonzero(np.diff(same.astype(int))) < 22  # shuffled: 15 changes between kinds are expected
    again, _ = draw_pairs(LABELS, count=30, seed=0)
    np.testing.assert_array_equal(again, positions)
    assert draw_pairs(LABELS, count=30, seed=1)[0].tolist() != positions.tolist()


def test_draw_pairs__as_many_as_there_are_where_none_were_asked_for() -> None:
    _, same = draw_pairs(np.array([0, 0, 1, 1, 1]), count=None, seed=0)  # 4 same and 6 different pairs
    assert np.bincount(same).tolist() == [4, 4]
    _, same = draw_pairs(np.arange(4000) % 200, count=None, seed=0)
    assert np.bincount(same).tolist() == [1500, 1500]
    with pytest.raises(DataError, match="1 same pairs were asked for, and the labels give 0"):
        draw_pairs(np.array([0, 1, 2]), count=None, seed=0)


def test_draw_pairs__refuses_more_than_there_are() -> None:
    with pytest.raises(DataError, match="5 same pairs were asked for, and the labels give 4"):
        draw_pairs(np.array([0, 0, 1, 1, 1]), count=10, seed=0)
    with pytest.raises(DataError, match="the labels give 0"):
        draw_pairs(np.array([-1, -1]), count=2, seed=0)


def test_read_pairs__round_trip(tmp_path: Path) -> None:
    names = ["a/ü.jpg", 'b/"x, y".jpg', "c.jpg"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    file = tmp_path / "pairs.csv"
    file.write_bytes(pairs_csv(names, np.array([[0, 1], [2, 0]]), np.array([True, False])))
    pairs = read_pairs(file, root=tmp_path)
    assert [(pair.first, pair.second, pair.same, pair.line) for pair in pairs] == [
        (tmp_path / names[0], tmp_path / names[1], True, 2),
        (tmp_path / names[2], tmp_path / names[0], False, 3),
    ]


@pytest.mark.parametrize("sign", [";", "\t"])
def test_read_pairs__other_signs_between_the_cells(tmp_path: Path, sign: str) -> None:
    (tmp_path / "a, b.jpg").touch()
    rows = [("path_a", "path_b", "Same"), ("a, b.jpg", "a, b.jpg", "1")]
    (tmp_path / "pairs.csv").write_text("".join(sign.join(row) + "\n" for row in rows))
    (pair,) = read_pairs(tmp_path / "pairs.csv", root=tmp_path)
    assert (pair.first, pair.same) == (tmp_path / "a, b.jpg", True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Me.jpg,You.jpg,1\n", r"not 'Me.jpg,You.jpg,1'"),
        ("a,b,same\nx,x,1\n", r":1: the header must be path_a,path_b,same"),
        ("", r":1: the header must be"),
        ("path_a,path_b,same\n", "holds no pairs"),
        ("path_a,path_b,same\nx,x,1\nx,x\n", r":3: 2 cells instead of"),
        ("path_a,path_b,same\nx,x,2\n", r":2: same is '2', and must be 1 or 0"),
        ("\ufeffpath_a,path_b,same\r\nx,x,1\r\n\r\nx,gone,0\r\n", r":4: there is no file '.*gone'"),
        ("path_a,path_b,same\nx\0,x,1\n", r":2: there is no file|no CSV"),
    ],
)
def test_read_pairs__names_the_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "x").touch()
    file = tmp_path / "pairs.csv"
    file.write_bytes(content.encode())
    with pytest.raises(DataError, match=message):
        read_pairs(file, root=tmp_path)
    with pytest.raises(DataError, match="cannot read"):
        read_pairs(tmp_path / "absent.csv", root=tmp_path)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_pairs_csv__no_cell_is_run_by_a_spreadsheet(tmp_path: Path, start: str) -> None:
    name = f"{start}B/x.png"
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).touch()
    content = pairs_csv([name, "x.png"], np.array([[0, 0]]), np.array([True]))
    (tmp_path / "pairs.csv").write_bytes(content)
    (pair,) = read_pairs(tmp_path / "pairs.csv", root=tmp_path)
    assert pair.first.samefile(tmp_path / name)
    cells = content.decode().split("\n", 1)[1].replace('"', "")
    assert cells.startswith("./")
