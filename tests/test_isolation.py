from __future__ import annotations

from pathlib import Path

from contrastive_cli.data.cache import cache_directory


def test_cache_directory__is_never_that_of_whoever_runs_the_tests(clr_cache: Path) -> None:
    assert cache_directory() == clr_cache
