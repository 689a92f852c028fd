"""Methods of one's own: a file that `--method` names, or an entry point of an installed package.

The file is the same as one in `contrastive_cli/methods`: it ends with `METHOD = MethodSpec(...)`.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from torch import nn

from contrastive_cli.core.config import Config, Tree
from contrastive_cli.core.errors import RunError, UsageError
from contrastive_cli.core.manifest import OwnFile
from contrastive_cli.core.own_code import OwnCode, guarded, import_file, is_file_name, recall, remember
from contrastive_cli.core.types import Method, MethodSpec
from contrastive_cli.data.cache import cache_directory
from contrastive_cli.methods import GROUP, add_method, own_folder

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_files: dict[str, OwnFile] = {}


def own_file_of(name: str) -> OwnFile | None:
    """The file that a method came from; None for a method of this package."""
    return _files.get(name)


def name_method(name: str) -> str:
    """Take a method that a person named on the command line, by its file or by the name of an entry point.

    Returns:
        The name of the method, which `load_method` knows from now on.

    Raises:
        UsageError: If there is no such file, or it does not fit the contract.
    """
    if is_file_name(name):
        code = import_file(Path(name))
        own = _add(code)
        remember(code, cache_directory())
        return own
    if name not in own_folder() and name not in _files:
        for point in metadata.entry_points(group=GROUP, name=name):
            where = f"the entry point {name} of {GROUP}"
            found = guarded(point.load, where=where)
            module = sys.modules[point.module]
            spec = _checked(getattr(found, "METHOD", found), where=where)
            if _name_of(spec) != name:
                raise UsageError(f"{where} offers a method named {_name_of(spec)!r}")
            file = Path(getattr(module, "__file__", None) or os.devnull)
            _files[name] = OwnFile(path=os.fspath(file), sha256=hashlib.sha256(file.read_bytes()).hexdigest())
            add_method(name, spec)
    return name


def with_named_method(tree: Tree) -> Tree:
    """The tree of what a person typed, with the name of the method whose file or entry point it names."""
    node = tree.get("method")
    if not isinstance(node, Mapping) or not isinstance(node.get("name"), str):
        return tree
    return {**tree, "method": {**node, "name": name_method(node["name"])}}


def recall_method(name: str, file: OwnFile | None) -> None:
    """Make the method of a run known, where it is one that a person has named on this machine before.

    Raises:
        RunError: If it is not.
    """
    if file is None or name in _files:
        return
    code = recall(file.sha256, cache_directory())
    if code is None and name in metadata.entry_points(group=GROUP).names:
        name_method(name)
        return
    if code is None or _add(code) != name:
        raise RunError(
            f"the run was trained by the method of {file.path!r}, and no such file was named on this machine",
            hint="its code would be run: look at it, then name it once by `clr methods FILE.py`",
        )


def _add(code: OwnCode) -> str:
    spec = _checked(getattr(code.module, "METHOD", None), where=os.fspath(code.file))
    name = _name_of(spec)
    _files[name] = OwnFile(path=os.fspath(code.file), sha256=code.sha256)
    add_method(name, spec)
    return name


def _name_of(spec: MethodSpec) -> str:
    return str(spec.config.model_fields["name"].default)


def _checked(spec: Any, *, where: str) -> MethodSpec:
    """The entry, if it fits the contract.

    Raises:
        UsageError: With what does not fit.
    """
    if not isinstance(spec, MethodSpec):
        found = "nothing" if spec is None else f"a {type(spec).__name__}"
        raise UsageError(f"{where}: METHOD is {found}, not a MethodSpec", hint="see CONTRIBUTING.md, add a method")
    problems = []
    config: object = spec.config  # what a file hands over may be anything, whatever the annotation says
    if not (isinstance(config, type) and issubclass(config, Config)):
        raise UsageError(f"{where}: config of METHOD is no class of core.config.Config")
    field = spec.config.model_fields.get("name")
    if field is None or not isinstance(field.default, str) or not NAME.fullmatch(field.default):
        problems.append("its configuration has no field `name` whose default is made of small letters, digits and -")
    elif field.default in own_folder():
        problems.append(f"its name {field.default!r} is that of a method of clr")
    construct: object = spec.build
    if not callable(construct):
        problems.append("build cannot be called")
    if not isinstance(spec.summary, str) or not spec.summary:
        problems.append("summary is no text")
    if problems:
        raise UsageError(f"{where}: {'; '.join(problems)}")
    return spec


def checked_method(built: object, *, name: str) -> Method:
    """What the `build` of one's own method returned, if it is a method.

    Raises:
        UsageError: With what it lacks.
    """
    where = _files[name].path
    if not isinstance(built, nn.Module):
        raise UsageError(f"{where}: build returned a {type(built).__name__}, not a torch module")
    lacking = [part for part in ("training_loss", "embed") if not callable(getattr(built, part, None))]
    lacking += [part for part in ("num_views", "embedding_dim") if not isinstance(getattr(built, part, None), int)]
    if lacking:
        raise UsageError(f"{where}: the method has no {', '.join(lacking)}", hint="see core.types.Method")
    found: Method = built  # type: ignore[assignment]  # what the protocol asks for was just looked at
    return found
