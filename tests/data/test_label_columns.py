"""Which columns of a file of labels are the path and the label, and that nothing is guessed."""

from __future__ import annotations

from pathlib import Path

import pytest

from contrastive_cli.core.errors import DataError
from contrastive_cli.data.label_file import read_labels


@pytest.mark.parametrize("text", ["file,age,sex\na.jpg,31,m\n", "a.jpg,31,m\nb.jpg,40,f\n", "a.jpg\t1\t2\n"])
def test_read_labels__of_three_columns_a_header_names_two(text: str, tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text(text)
    with pytest.raises(DataError, match="of 3 columns nothing says which are the path and the label") as caught:
        read_labels(tmp_path / "l.csv")
    assert caught.value.hint is not None
    (tmp_path / "l.csv").write_text("age,path,label\n31,a.jpg,m\n")
    assert read_labels(tmp_path / "l.csv").by_name == {"a.jpg": "m"}
    (tmp_path / "l.csv").write_text("a.jpg,m\n")
    assert read_labels(tmp_path / "l.csv").by_name == {"a.jpg": "m"}
