"""Every command block of the documents runs in the order of its page, as written but for `fast.SUBSTITUTIONS`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from clr_process import clr_environment
from clr_server import write_client
from fast import fast
from pages import blocks, read_page, runnable_pages
from reader_data import make_cifar, make_faces, make_parquet, make_photos, make_tar

NEEDED = {
    "photos": make_photos,
    "--dataset lfw": make_faces,
    "--dataset cifar10": make_cifar,
    "--dataset tar": make_tar,
    "--dataset parquet": make_parquet,
}

SLOW = {  # several trainings each, or what commands do that are tested elsewhere
    "docs/encoders.md",
    "docs/few-labels.md",
    "docs/faces.md",
    "docs/neighbors.md",
    "docs/export.md",
    "docs/trackers.md",
    "docs/reports.md",
    "docs/scale.md",
    "docs/map.md",
    "docs/python.md",
    "docs/scripts.md",
    "docs/photos.md",
    "docs/views.md",
    "docs/space.md",
}
METHOD_RUN_BY_DEFAULT = "docs/methods/simclr.md"  # the commands of the others differ by the name of the method


def is_slow(page: str) -> bool:
    return page in SLOW or (page.startswith("docs/methods/") and page != METHOD_RUN_BY_DEFAULT)


PAGES = [pytest.param(page, marks=pytest.mark.slow if is_slow(page) else ()) for page in runnable_pages()]


@pytest.fixture(scope="module")
def shell(clr_address: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a shell in which `clr` is quick."""
    folder = tmp_path_factory.mktemp("shell")
    environment = clr_environment(folder / "cache")
    (folder / "bin").mkdir()
    write_client(folder / "bin" / "clr", address=clr_address)
    own_python = folder / "bin" / "python"
    own_python.symlink_to(sys.executable)
    return {**environment, "PATH": f"{folder / 'bin'}{os.pathsep}{environment['PATH']}"}


@pytest.mark.parametrize("page", PAGES)
def test_page__every_block_runs(page: str, shell: dict[str, str], tmp_path: Path) -> None:
    for word, make in NEEDED.items():
        if word in read_page(page):
            make(tmp_path)
    for block in blocks(page):
        if block.language == "sh":
            lines = [part for line in block.text.replace("\\\n", "").splitlines() for part in fast(line)]
            command, script = ["bash", "-e", "-x", "-c"], "\n".join(lines)
        elif block.language == "python":
            command, script = [sys.executable, "-c"], block.text
        else:
            continue
        finished = subprocess.run(
            [*command, script], cwd=tmp_path, env=shell, capture_output=True, text=True, timeout=300
        )
        assert finished.returncode == 0, f"{page}:\n{script}\n{finished.stderr[-3000:]}"


def test_blocks__say_their_language() -> None:
    known = {"sh", "python", "text", "yaml"}
    for page in runnable_pages():
        assert {block.language for block in blocks(page)} <= known, page
