from __future__ import annotations

from collections.abc import Iterator

import process_pool
import pytest
from process_pool import Pool


@pytest.fixture(scope="session")
def pool(clr_cache: object) -> Iterator[Pool]:
    yield from process_pool.pool()
