from __future__ import annotations

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, torch
from contrastive_cli.engine.allocator import keep_freed_memory
if {kept}:
    keep_freed_memory()
def use():
    blocks = [torch.empty(megabytes << 20, dtype=torch.uint8).fill_(1) for megabytes in (1, 7, 40)]
for _ in range(20):  # until the blocks have found their places in the heap
    use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_keep_freed_memory__the_next_tensors_need_no_new_pages() -> None:
    fresh, kept = (
        int(subprocess.run([sys.executable, "-c", SCRIPT.format(kept=kept)], capture_output=True, check=True).stdout)
        for kept in (False, True)
    )
    assert kept < 0.1 * fresh
