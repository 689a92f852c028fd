"""One file per method, found by listing this folder; the file's name is the method's name on the command line.

Methods from elsewhere, files that a person names or entry points of the group `clr.methods`, are added under the name
that they give themselves.
"""

from __future__ import annotations

import importlib
from importlib import metadata
from pathlib import Path

from contrastive_cli.core.config import did_you_mean
from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.types import MethodSpec

GROUP = "clr.methods"
IMPORTED = "imported"  # in the place of a method where an encoder came as it is
_added: dict[str, MethodSpec] = {}


def list_methods() -> list[str]:
    """The names of all methods, without importing any."""
    return sorted({*own_folder(), *_added, *(point.name for point in metadata.entry_points(group=GROUP))})


def own_folder() -> list[str]:
    """The names of the methods of this package."""
    files = (file for folder in __path__ for file in Path(folder).glob("*.py"))
    return sorted(file.stem.replace("_", "-") for file in files if not file.stem.startswith("_"))


def add_method(name: str, spec: MethodSpec) -> None:
    """Add a method that was checked against the contract."""
    _added[name] = spec


def load_method(name: str) -> MethodSpec:
    """Import one method's file and return its `METHOD`.

    Raises:
        UsageError: If there is no such method.
    """
    if name in _added:
        return _added[name]
    if name == IMPORTED:
        stand_in: MethodSpec = importlib.import_module(f"{__name__}._{IMPORTED}").METHOD
        return stand_in
    if name not in own_folder():
        hint = "a method of your own is named by its file: --method FILE.py"
        raise UsageError(f"no method named {name!r}{did_you_mean(name, list_methods())}", hint=hint)
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    spec: MethodSpec = module.METHOD
    return spec
