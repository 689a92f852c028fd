from __future__ import annotations

from collections.abc import Iterator

import pytest
from distributed import process_pool
from distributed.process_pool import Pool


@pytest.fixture(scope="session")
def pool(clr_cache: object) -> Iterator[Pool]:
    yield from process_pool.pool()
