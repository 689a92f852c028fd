from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for each test, and never the user's."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("CLR_CACHE", str(folder))
    return folder
