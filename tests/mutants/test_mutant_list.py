"""The list of mutants does not rot: each can still be applied, and its tests are there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from kill_mutants import REPOSITORY, Mutant, read_mutants

MUTANTS = read_mutants()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_read_mutants__each_can_be_applied(mutant: Mutant) -> None:
    text = (REPOSITORY / "contrastive_cli" / mutant.file).read_text()
    changed = mutant.applied(text)
    assert changed != text
    ast.parse(changed)  # a change that Python refuses would be noticed by anything
    for test in mutant.tests:
        file, *names = test.split("::")
        assert (REPOSITORY / file).is_file(), test
        for name in names:
            assert f"def {name.partition('[')[0]}(" in (REPOSITORY / file).read_text(), test


def test_read_mutants__names_are_distinct() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert len(set(names)) == len(names)


def test_applied__a_text_that_occurs_twice_is_refused() -> None:
    mutant = Mutant(name="x", what="", file="x.py", old="a", new="b", tests=())
    assert mutant.applied("cad") == "cbd"
    for text in ("aa", ""):
        with pytest.raises(ValueError, match="not once"):
            mutant.applied(text)


def test_repository__is_where_the_package_lies() -> None:
    assert (Path(REPOSITORY) / "contrastive_cli" / "__init__.py").is_file()
