"""The import layers: cli -> services -> {data, views, models, losses, methods, engine, embeddings, viz} -> core.

Sideways: methods may use models and losses, data and embeddings may use pickles; nothing else.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import contrastive_cli

ROOT = Path(contrastive_cli.__file__).parent
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))
# `pickles` reads files of strangers for data and embeddings; it needs numpy at import, so it is no part of core.
MIDDLE = {"data", "views", "models", "losses", "methods", "engine", "embeddings", "viz", "pickles"}
ALLOWED = {
    "core": set(),
    **{layer: {"core"} for layer in MIDDLE},
    "methods": {"core", "models", "losses"},
    "data": {"core", "pickles"},
    "embeddings": {"core", "pickles"},
    "services": {"core", *MIDDLE},
    "cli": {"core", "services", *MIDDLE},
}
ROOMS = {  # what a sub-package, or a file beside the sub-packages ("."), may use within its own package
    "services": {
        ".": set(),
        "inference": {"."},
        "training": {".", "inference", "trackers"},
        "evaluation": {".", "inference", "training"},
        "figures": {".", "inference", "training"},
        "importing": {"."},
        "trackers": {"."},
        "exporting": {".", "inference"},
        "curation": {".", "inference"},
        "report": {".", "inference", "evaluation", "figures"},
    },
    "models": {".": {"weights"}, "weights": {"."}},
    "data": {".": {"entries"}, "entries": {"."}},
    "embeddings": {".": {"search", "probes"}, "probes": set(), "search": {"."}},
}
HEAVY = {"torch", "torchvision", "sklearn", "umap", "openTSNE", "matplotlib", "timm", "scipy", "tensorboard"}
HEAVY |= {"onnx", "onnxruntime"}
MAX_LINES = 300


def read(module: str) -> ast.Module:
    return ast.parse((ROOT / module).read_text(), filename=module)


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def walk(node: ast.AST, *, module_level: bool) -> Iterator[ast.AST]:
    """All nodes outside TYPE_CHECKING blocks; at module level only what runs at import."""
    for child in ast.iter_child_nodes(node):
        if is_type_checking(child) or (module_level and isinstance(child, ast.FunctionDef | ast.Lambda)):
            continue
        yield child
        yield from walk(child, module_level=module_level)


def imports(tree: ast.Module, *, module_level: bool) -> set[str]:
    names = set()
    for node in walk(tree, module_level=module_level):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the layer"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def own_packages(names: set[str]) -> set[str]:
    """The packages of ours among the imported names; `contrastive_cli.__version__` is none."""
    parts = [name.split(".") for name in names if name.startswith("contrastive_cli.")]
    return {part[1] for part in parts if (ROOT / part[1]).is_dir()}


@pytest.mark.parametrize("module", [module for module in MODULES if "/" in module])
def test_layers__imports_point_down(module: str) -> None:
    package = module.split("/")[0]
    used = own_packages(imports(read(module), module_level=False)) - {package}
    assert used <= ALLOWED[package], f"{module} imports {used - ALLOWED[package]}"


def room_of(parts: list[str]) -> str:
    """The sub-package of a path or of a dotted name below its package; "." for what lies beside the sub-packages."""
    return parts[1] if (ROOT / parts[0] / parts[1]).is_dir() else "."


@pytest.mark.parametrize("module", [module for module in MODULES if module.split("/")[0] in ROOMS])
def test_layers__rooms_point_down(module: str) -> None:
    package, room = module.split("/")[0], room_of(module.split("/"))
    names = [name.split(".")[1:] for name in imports(read(module), module_level=False)]
    used = {room_of(name) for name in names if name[:1] == [package] and len(name) > 1} - {room}
    assert used <= ROOMS[package][room], f"{module} imports {used - ROOMS[package][room]}"


def test_layers__every_room_is_known() -> None:
    found = {(module.split("/")[0], module.split("/")[1]) for module in MODULES if module.count("/") > 1}
    assert found == {(package, room) for package, rooms in ROOMS.items() for room in rooms if room != "."}


@pytest.mark.parametrize("module", [module for module in MODULES if module.split("/")[0] in ("core", "cli")])
def test_layers__core_and_cli_start_light(module: str) -> None:
    names = imports(read(module), module_level=True)
    assert not {name.split(".")[0] for name in names} & (HEAVY | {"numpy"}), module
    assert own_packages(names) <= {"core", "cli"}, module  # what lies between imports torch


def test_layers__every_package_is_known_and_used() -> None:
    packages = {module.split("/")[0] for module in MODULES if "/" in module}
    assert packages == ALLOWED.keys()


@pytest.mark.parametrize("module", MODULES)
def test_layers__names_and_lengths(module: str) -> None:
    assert Path(module).stem not in ("base", "utils", "util", "common", "helpers", "misc")
    assert len((ROOT / module).read_text().splitlines()) <= MAX_LINES
    assert ast.get_docstring(read(module))


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import torch", {"torch"}),
        ("try:\n    import torch.nn\nexcept ImportError:\n    pass", {"torch.nn"}),
        ("class A:\n    from torch import nn", {"torch.nn"}),
        ("def f():\n    import torch", set()),
        ("if TYPE_CHECKING:\n    import torch", set()),
    ],
)
def test_imports__what_runs_at_import(source: str, found: set[str]) -> None:
    assert imports(ast.parse(source), module_level=True) == found
