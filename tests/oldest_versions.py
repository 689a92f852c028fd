"""Run the tests once with the oldest versions of everything that pyproject.toml allows.

    python tests/oldest_versions.py                   make the environment, then the tests; `make oldest` does the same
    python tests/oldest_versions.py --list            print the pinned versions and end
    python tests/oldest_versions.py tests/embeddings  other arguments go to pytest

The lower bound of every dependency and extra becomes a pin, what has none is left to uv (pip fetches whole packages to
find out what goes with what), and so are those tools of the extra `dev` that no test imports. The environment is
`.venv-oldest`, made anew each time with the interpreter that runs this. It takes long: everything is installed, and all
default tests run.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import venv
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
ENVIRONMENT = REPOSITORY / ".venv-oldest"
TOOLS = ("mypy", "ruff", "types-PyYAML")
REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9_.-]+)\s*(?:>=\s*(?P<least>[0-9][0-9A-Za-z.]*))?(?P<rest>[^;]*)")


def oldest(requirements: Sequence[str]) -> list[str]:
    """`name>=1.2,<3; marker` -> `name==1.2; marker`; a requirement without a lower bound stays as it is."""
    pinned = []
    for requirement in requirements:
        match = REQUIREMENT.match(requirement)
        assert match is not None, requirement
        if match["name"] in TOOLS or match["name"] == "contrastive-cli":  # the extras of its own are read anyway
            continue
        _, semicolon, marker = requirement.partition(";")
        pin = requirement if match["least"] is None else f"{match['name']}=={match['least']}{semicolon}{marker}"
        if pin not in pinned:
            pinned.append(pin)
    return pinned


def oldest_of_project() -> list[str]:
    """The pins of the dependencies and of all extras."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    return oldest(
        [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    )


def main(arguments: Sequence[str]) -> int:
    """Make the environment, install the pins, run pytest; returns its exit status."""
    pins = oldest_of_project()
    if "--list" in arguments:
        print("\n".join(pins))
        return 0
    venv.create(ENVIRONMENT, clear=True, with_pip=True)
    python = str(ENVIRONMENT / "bin" / "python")
    uv = [str(ENVIRONMENT / "bin" / "uv"), "pip", "install", "--quiet", "--python", python]
    for command in (
        [python, "-m", "pip", "install", "--quiet", "uv"],
        [*uv, *pins],
        [*uv, "--no-deps", "--editable", str(REPOSITORY)],
    ):
        done = subprocess.run(command)
        if done.returncode != 0:
            return done.returncode
    return subprocess.run([python, "-m", "pytest", *arguments], cwd=REPOSITORY).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
