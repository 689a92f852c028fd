from __future__ import annotations

from contrastive_cli.core.wording import counted


def test_counted__one_and_many() -> None:
    assert [counted(count, "file") for count in (0, 1, 2)] == ["0 files", "1 file", "2 files"]
    assert [counted(count, "class", "classes") for count in (1, 3)] == ["1 class", "3 classes"]
