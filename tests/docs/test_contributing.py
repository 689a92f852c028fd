"""CONTRIBUTING.md's recipes, followed word by word in a copy of the package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from clr_process import clr_environment
from pages import REPOSITORY, read_page

COPIED = ("contrastive_cli", "configs", "tests", "benchmarks", "scripts", "docs", "pyproject.toml", "mkdocs.yml")
RECIPES = ("Add a method", "Add a dataset", "Add an augmentation", "Add a command")
# "Write `FILE`:", "In `FILE`, above|below `LINE`, add:" or "In `FILE`, replace `LINE` by:", each before its block.
INSTRUCTION = re.compile(
    r"(?:Write `(?P<new>[^`]+)`|"
    r"In\s`(?P<file>[^`]+)`,\s(?P<how>above|below|replace) `(?P<line>[^`]+)`,?\s(?:add|by)):\n\n"
    r"```\w+\n(?P<text>.*?)^```$|^```sh\n(?P<commands>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


def section(title: str) -> str:
    _, _, rest = read_page("CONTRIBUTING.md").partition(f"\n## {title}\n")
    assert rest, title
    return rest.partition("\n## Add ")[0]


def change(file: Path, *, how: str, line: str, text: str) -> None:
    """Put the text above, below or in the place of the one line that reads so."""
    lines = file.read_text().splitlines(keepends=True)
    (found,) = [number for number, written in enumerate(lines) if written.strip() == line]
    lines[found : found + 1] = {"above": [text, lines[found]], "below": [lines[found], text], "replace": [text]}[how]
    file.write_text("".join(lines))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the repository, and a `clr` beside it that runs the copy."""
    for name in COPIED:
        original = REPOSITORY / name
        if original.is_dir():
            shutil.copytree(original, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "golden"))
        else:
            shutil.copy(original, tmp_path / name)
    return tmp_path


@pytest.mark.slow  # each starts half a dozen processes that import torch
@pytest.mark.parametrize("title", RECIPES)
def test_recipe__works_as_written(title: str, copy: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    programs = tmp_path_factory.mktemp("programs")
    (programs / "clr").write_text(f'#!/bin/sh\nexec {sys.executable} -m contrastive_cli "$@"\n')
    (programs / "pytest").write_text(f'#!/bin/sh\nexec {sys.executable} -m pytest -p no:cacheprovider "$@"\n')
    (programs / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    environment = clr_environment(programs / "cache")
    environment |= {"PYTHONPATH": str(copy), "PATH": f"{programs}{os.pathsep}{environment['PATH']}"}
    written: list[str] = []
    for step in INSTRUCTION.finditer(section(title)):
        if step["commands"] is not None:
            command = ["bash", "-e", "-x", "-c", step["commands"]]
            finished = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=900)
            said = f"{finished.stdout[-3000:]}\n{finished.stderr[-3000:]}"
            assert finished.returncode == 0, f"{step['commands']}\n{said}"
        elif step["new"] is not None:
            assert not (copy / step["new"]).exists()
            (copy / step["new"]).write_text(step["text"])
            written.append(step["new"])
        else:
            change(copy / step["file"], how=step["how"], line=step["line"], text=step["text"])
            written.append(step["file"])
    python = sorted({name for name in written if name.endswith(".py")})
    for check in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *check, "--no-cache", *python]
        finished = subprocess.run(ruff, cwd=copy, capture_output=True, text=True)
        assert finished.returncode == 0, finished.stdout + finished.stderr


def test_recipes__every_block_is_one_that_the_test_follows() -> None:
    for title in RECIPES:
        text = section(title)
        assert len(INSTRUCTION.findall(text)) == len(re.findall(r"^```\w+$", text, re.MULTILINE)), title
