"""One file per method, found by listing this folder; the file's name is the method's name on the command line."""

from __future__ import annotations

import importlib
from pathlib import Path

from contrastive_cli.core.config import did_you_mean
from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.types import MethodSpec


def list_methods() -> list[str]:
    """The names of all methods, without importing any."""
    files = (file for folder in __path__ for file in Path(folder).glob("*.py"))
    return sorted(file.stem.replace("_", "-") for file in files if not file.stem.startswith("_"))


def load_method(name: str) -> MethodSpec:
    """Import one method's file and return its `METHOD`.

    Raises:
        UsageError: If there is no such method.
    """
    known = list_methods()
    if name not in known:
        raise UsageError(f"no method named {name!r}{did_you_mean(name, known)}")
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    spec: MethodSpec = module.METHOD
    return spec
