"""The documents as a reader follows them: their pages, command blocks, links, and the commands within sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, and its text."""

    language: str
    text: str


def all_pages() -> list[str]:
    """Every document, by its path below the repository's root."""
    files = [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")]
    return sorted(file.relative_to(REPOSITORY).as_posix() for file in files)


def read_page(page: str) -> str:
    return (REPOSITORY / page).read_text()


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return [Block(language=language, text=text) for language, text in FENCE.findall(read_page(page))]


def runnable_pages() -> list[str]:
    """The pages with commands; CONTRIBUTING.md is followed by a test of its own."""
    return [
        page
        for page in all_pages()
        if page != "CONTRIBUTING.md" and any(block.language == "sh" for block in blocks(page))
    ]


def prose(page: str) -> str:
    """The page without its fenced blocks."""
    return FENCE.sub("", read_page(page))


def links(page: str) -> list[str]:
    """Links to files of ours, as written."""
    return [link for link in LINK.findall(prose(page)) if "://" not in link]


def anchors(page: str) -> set[str]:
    """What `#...` may name on a page: its headings, lower case, words joined by hyphens."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


def inline_commands(page: str) -> Iterator[list[str]]:
    """The words of every `clr ...` and `python -m ...` that stands within a sentence or a table."""
    for code in INLINE.findall(prose(page)):
        for command in re.split(r"\s+(?:&&|\|)\s+", " ".join(code.split())):
            if command.startswith(("clr ", "python -m ")):
                yield command.split()
