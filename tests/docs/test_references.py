"""What the documents refer to is there: files, headings, commands, options, and the tables made from the code."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from pages import REPOSITORY, all_pages, anchors, inline_commands, links

from contrastive_cli.cli import app
from scripts.reference import documented_fields, outdated, pages

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
PLACEHOLDERS = ("COMMAND", "KIND", "FILE")


@pytest.mark.parametrize("page", all_pages())
def test_page__links_lead_somewhere(page: str) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = os.path.normpath(Path(page).parent / path) if path else page
        if target == "docs/contributing.md":  # the site makes it of CONTRIBUTING.md
            target = "CONTRIBUTING.md"
        assert (REPOSITORY / target).exists(), f"{page} links to {link}"
        assert not anchor or anchor in anchors(target), f"{page} links to {link}"


NOT_TYPED = ("CHANGELOG.md", "docs/speed.md")  # what was, and what was measured


@pytest.mark.parametrize("page", [page for page in all_pages() if page not in NOT_TYPED])
def test_page__commands_within_sentences_exist(page: str) -> None:
    for words in inline_commands(page):
        if words[0] == "python":
            assert importlib.util.find_spec(words[2].partition("=")[0]) or words[2] == "benchmarks.NAME", words
        elif words[1] not in PLACEHOLDERS and not words[1].startswith("-"):
            assert words[1] in COMMANDS, f"{page}: {' '.join(words)}"
            command = COMMANDS[words[1]]
            below = getattr(command, "commands", {})
            if below:  # `list` is meant where none is named
                command = below.get(words[2] if len(words) > 2 else "list", below["list"])
            known = {option for parameter in command.params for option in parameter.opts}
            options = {word.partition("=")[0] for word in words[2:] if word.startswith("--")}
            assert options <= known | {"--help"}, f"{page}: {' '.join(words)}"


def test_reference__is_what_the_code_says() -> None:
    assert not outdated(pages()), "run python -m scripts.reference (make docs)"


def test_documented_fields__of_a_docstring() -> None:
    from contrastive_cli.methods.simclr import SimCLRConfig

    fields = documented_fields(SimCLRConfig)
    assert fields["num_views"] == "Views V of an image in one step; all pairs of views are positives."
    assert fields.keys() == SimCLRConfig.model_fields.keys() - {"name"}


def test_readme__is_a_first_page() -> None:
    text = (REPOSITORY / "README.md").read_text()
    assert len(text.encode()) <= 8000
    assert text.count("![") == 1


def test_site__builds_without_a_dead_link(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    finished = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "site" / "contributing.html").exists()
