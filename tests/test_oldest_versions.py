from __future__ import annotations

import pytest
from oldest_versions import TOOLS, oldest, oldest_of_project


@pytest.mark.parametrize(
    ("requirement", "pin"),
    [
        ("numpy>=1.26", ["numpy==1.26"]),
        ("pydantic>=2.6,<3", ["pydantic==2.6"]),
        ("faiss-cpu>=1.8; sys_platform == 'linux'", ["faiss-cpu==1.8; sys_platform == 'linux'"]),
        ("anything", ["anything"]),
        (f"{TOOLS[0]}>=2.4,<2.5", []),
    ],
)
def test_oldest__the_lower_bound_becomes_a_pin(requirement: str, pin: list[str]) -> None:
    assert oldest([requirement, requirement]) == pin


def test_oldest_of_project__everything_that_is_imported_has_a_lower_bound() -> None:
    assert [pin for pin in oldest_of_project() if "==" not in pin.partition(";")[0]] == []
