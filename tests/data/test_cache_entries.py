"""The entries of the cache: listed, removed, and kept below a limit, with nothing else touched."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from clr_process import Result, clr_command, clr_environment

from contrastive_cli.core.errors import RunError, UsageError
from contrastive_cli.data.cache import ImageSet, cache_directory
from contrastive_cli.data.cache_entries import cache_limit, list_entries, remove_entry
from contrastive_cli.data.datasets import open_dataset


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLR_CACHE", str(tmp_path / "cache"))


def digits(size: int, *, split: str = "test", used: float = 0.0) -> ImageSet:
    """An entry that was used `used` seconds ago."""
    images = open_dataset("digits", split=split, data_dir=None, size=size)
    (entry,) = [one for one in list_entries(cache_directory()) if (one.size, one.split) == (size, split)]
    os.utime(entry.path, (time.time() - used,) * 2)
    return images


def names() -> list[str]:
    return [f"{entry.split}-{entry.size}" for entry in list_entries(cache_directory())]


def test_list_entries__the_last_used_first_and_nothing_else() -> None:
    images = digits(8, used=10)
    digits(16, used=30)
    folder = cache_directory()
    (folder / "mine").mkdir()
    (folder / "mine/images.u8").write_bytes(b"1")
    (folder / "digits-test-9px-0123456789abcdef").mkdir()  # of that name, but empty
    first, second = list_entries(folder)
    assert (first.size, first.dataset, first.split, first.images) == (8, "digits", "test", images.num_samples)
    assert first.bytes > images.images.size
    assert second.size == 16


def test_open_dataset__notes_the_use() -> None:
    digits(8, used=1000)
    digits(16, used=500)
    assert names() == ["test-16", "test-8"]
    open_dataset("digits", split="test", data_dir=None, size=8)
    assert names() == ["test-8", "test-16"]


def test_remove_entry__open_images_stay_readable() -> None:
    images = digits(8)
    before = images.images[:].copy()
    (entry,) = list_entries(cache_directory())
    remove_entry(entry)
    assert [path for path in cache_directory().iterdir() if path.name.startswith("digits")] == []
    assert (images.images == before).all()
    assert digits(8).fingerprint == images.fingerprint


def test_list_entries__a_link_is_no_entry(tmp_path: Path) -> None:
    digits(8)
    (entry,) = list_entries(cache_directory())
    elsewhere = tmp_path / "elsewhere"
    entry.path.rename(elsewhere)
    entry.path.symlink_to(elsewhere)
    assert list_entries(cache_directory()) == []
    with pytest.raises(RunError):  # as if it had become one after it was listed: the link goes, not what it leads to
        remove_entry(entry)
    assert (elsewhere / "images.u8").exists()


def test_cache_limit__what_was_used_longest_ago_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    for size, used in ((8, 30.0), (9, 10.0), (10, 20.0)):
        digits(size, used=used)
    total = sum(entry.bytes for entry in list_entries(cache_directory()))
    monkeypatch.setenv("CLR_CACHE_LIMIT", str(total + 100))
    digits(7)
    assert names() == ["test-7", "test-9", "test-10"]
    monkeypatch.setenv("CLR_CACHE_LIMIT", "20KB")
    with pytest.raises(RunError, match="more than CLR_CACHE_LIMIT allows"):
        digits(11)
    assert len(names()) == 3


def test_cache_limit__sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, expected in (("20GB", 20 * 10**9), ("1.5 g", 1_500_000_000), ("500mb", 500_000_000), ("", None)):
        monkeypatch.setenv("CLR_CACHE_LIMIT", text)
        assert cache_limit() == expected
    for text in ("much", "-1", "1e9", "5XB"):
        monkeypatch.setenv("CLR_CACHE_LIMIT", text)
        with pytest.raises(UsageError, match="CLR_CACHE_LIMIT"):
            cache_limit()


def test_cache__command(tmp_path: Path) -> None:
    clr_cache = tmp_path / "cache"  # of its own: others of this session go on with theirs

    def clr(*arguments: str | Path, cwd: Path) -> Result:
        done = subprocess.run(
            clr_command(arguments), cwd=cwd, env=clr_environment(clr_cache), capture_output=True, text=True, timeout=300
        )
        return Result(code=done.returncode, out=done.stdout, err=done.stderr)

    clr("datasets", "digits", "--save-images", "a", "--count", "1", cwd=tmp_path)
    listed = clr("cache", "--json", cwd=tmp_path).json
    (entry,) = [one for one in listed["entries"] if one["dataset"] == "digits" and one["split"] == "test"]
    assert Path(listed["directory"]) == clr_cache
    assert clr("cache", "remove", entry["name"], cwd=tmp_path).code == 2  # nobody is there to be asked
    assert clr("cache", "remove", cwd=tmp_path).code == 2
    assert clr("cache", "remove", "cifar10", "--yes", cwd=tmp_path).code == 2
    assert clr("cache", "remove", "--unused-for", "1d", "--yes", "--json", cwd=tmp_path).json["removed"] == []
    for unsaid in ("30", "", "soon"):
        refused = clr("cache", "remove", "--unused-for", unsaid, "--yes", cwd=tmp_path)
        assert (refused.code, "not a duration like 90s" in refused.err) == (2, True)
    done = clr("cache", "remove", entry["name"], "--yes", "--json", cwd=tmp_path)
    assert done.json == {"removed": [entry["name"]], "bytes": entry["bytes"]}
    assert not (clr_cache / entry["name"]).exists()
