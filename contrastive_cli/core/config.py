"""Configuration, one path: defaults < dataset's own < --config < --set < named flags.

Defaults live on frozen pydantic models beside what they configure. This module reads YAML without its traps
(aliases, duplicate keys, `1e-3` as a string), merges the layers, and reports every problem at once.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from contrastive_cli.core.errors import DataError, UsageError

MAX_YAML_BYTES = 1_000_000
MAX_YAML_DEPTH = 50
PRESETS = Path(__file__).parents[1] / "configs"
PRESETS_IN_CHECKOUT = Path(__file__).parents[2] / "configs"

Tree = dict[str, Any]


class Config(BaseModel):
    """Base of every configuration model: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


ConfigType = TypeVar("ConfigType", bound=Config)


def build(model: type[ConfigType], tree: Mapping[str, Any]) -> ConfigType:
    """Make the frozen configuration from a merged tree.

    Raises:
        UsageError: One line per problem, unknown keys with the nearest known one.
    """
    problems = _mistaken_booleans(model, tree)
    try:
        found = model.model_validate(dict(tree))
    except ValidationError as error:
        problems += [_describe(model, problem) for problem in error.errors()]
    if problems:
        raise UsageError("; ".join(problems), hint="`clr pretrain --plan` shows the resolved configuration")
    return found


def _mistaken_booleans(model: type[BaseModel], tree: Mapping[str, Any], prefix: str = "") -> list[str]:
    """A line for every true and false in the place of a number, which they would be taken for."""
    found = []
    for key, value in tree.items():
        if key not in model.model_fields:
            continue
        kinds = _kinds(model.model_fields[key].annotation)
        below = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        values = value if isinstance(value, list | tuple) else [value]
        if below is not None:
            parts = [part for part in values if isinstance(part, Mapping)]
            found += [line for part in parts for line in _mistaken_booleans(below, part, f"{prefix}{key}.")]
        elif any(isinstance(one, bool) for one in values) and not {bool, Any} & kinds and {int, float} & kinds:
            found.append(f"{prefix}{key}: a number is needed (given: {str(value).lower()})")
    return found


def _kinds(annotation: Any) -> set[Any]:
    """The plain types that an annotation is made of."""
    if parts := get_args(annotation):
        return set().union(*map(_kinds, parts))
    return {annotation} if isinstance(annotation, Hashable) else set()


def build_foreign(model: type[ConfigType], fields: Mapping[str, Any], *, origin: str) -> ConfigType:
    """Make the frozen fields that a file says which somebody else may have written.

    Raises:
        DataError: The first problem, in one line that names the `origin`.
    """
    try:
        return model.model_validate(dict(fields))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(f"{origin} cannot be used: {where} {first['msg'][:200]}") from None


def merge(*layers: Mapping[str, Any]) -> Tree:
    """Merge nested trees; later layers win, key by key."""
    merged: Tree = {}
    for layer in layers:
        for key, value in layer.items():
            known = merged.get(key)
            merged[key] = merge(known, value) if isinstance(known, dict) and isinstance(value, Mapping) else value
    return merged


def nested(assignments: Mapping[str, Any]) -> Tree:
    """Turn {"optim.lr": 0.1} into {"optim": {"lr": 0.1}}."""
    tree: Tree = {}
    for dotted, value in assignments.items():
        *parents, last = dotted.split(".")
        node = tree
        for parent in parents:
            child = node.setdefault(parent, {})
            if not isinstance(child, dict):
                raise UsageError(f"{dotted} sets a part of {parent}, which is set as a whole too")
            node = child
        if last in node:
            raise UsageError(f"{dotted} is set twice")
        node[last] = value
    return tree


def read_assignments(assignments: Sequence[str]) -> Tree:
    """Read `--set a.b=c` words; values are YAML scalars or flow lists."""
    values: Tree = {}
    for assignment in assignments:
        dotted, equals, text = assignment.partition("=")
        if not equals or not all(dotted.split(".")):
            raise UsageError(f"--set {assignment!r} is not of the form key.subkey=value")
        if dotted in values:
            raise UsageError(f"{dotted} is set twice by --set")
        values[dotted] = parse_yaml(text, source=f"--set {dotted}")
    return nested(values)


def read_preset(name_or_path: str) -> Tree:
    """Read a YAML file, or a preset of `configs/` by its bare name.

    Raises:
        UsageError: If there is no such file or preset, or it cannot be read.
    """
    known = {preset.stem: preset for preset in list_presets()}
    path = known.get(name_or_path, Path(name_or_path))
    if not path.suffix and not path.exists():
        raise UsageError(f"no preset named {name_or_path!r}{did_you_mean(name_or_path, known)}")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_YAML_BYTES + 1)
    except OSError as error:
        presets = ", ".join(sorted(preset.stem for preset in list_presets()))
        raise UsageError(
            f"cannot read configuration {path}: {error.strerror}",
            hint=f"give a file, or a preset: {presets}",
            path=path,
        ) from None
    if len(content) > MAX_YAML_BYTES:
        raise UsageError(f"configuration {path} is larger than {MAX_YAML_BYTES // 1000} kB", path=path)
    tree = parse_yaml(content.decode("utf-8", "replace"), source=str(path))
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise UsageError(f"configuration {path} is not a mapping of keys to values", path=path)
    return tree


def list_presets() -> list[Path]:
    """The YAML files that ship with clr, sorted by name."""
    folder = PRESETS if PRESETS.is_dir() else PRESETS_IN_CHECKOUT
    return sorted(folder.glob("*.yaml"))


def parse_yaml(text: str, *, source: str) -> Any:
    """Parse YAML without aliases, tags, duplicate keys or deep nesting; `1e-3` is a float.

    Raises:
        UsageError: If the text is not such YAML.
    """
    depth = 0
    try:
        for event in yaml.parse(text, Loader=_StrictLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent):
                raise UsageError(f"{source}: YAML aliases are not accepted")
            tag = getattr(event, "tag", None)  # some of the standard ones crash the reader: `!!bool maybe`
            if tag is not None:
                raise UsageError(f"{source}: YAML tags are not accepted (given: {tag})")
            if depth > MAX_YAML_DEPTH:
                raise UsageError(f"{source}: nested deeper than {MAX_YAML_DEPTH} levels")
        return yaml.load(text, Loader=_StrictLoader)  # a SafeLoader: builds plain values only
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"{source}: {' '.join(str(error).split())}") from None


def dump_yaml(tree: Mapping[str, Any]) -> str:
    """Write plain values as YAML that `parse_yaml` reads back as they were."""
    return yaml.dump(dict(tree), Dumper=_StrictDumper, sort_keys=False)


def did_you_mean(word: str, known: Mapping[str, Any] | Sequence[str]) -> str:
    """The end of an error line: the nearest known word, or the list of all."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(sorted(known))}"


class _StrictLoader(yaml.SafeLoader):
    """A SafeLoader that reads `1e-3` as a float and refuses duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        counts = Counter(key for key in keys if isinstance(key, Hashable))  # the others are refused below
        duplicates = sorted(str(key) for key, count in counts.items() if count > 1)
        if duplicates:
            raise yaml.constructor.ConstructorError(None, None, f"duplicate key {', '.join(duplicates)}")
        return super().construct_mapping(node, deep=deep)


class _StrictDumper(yaml.SafeDumper):
    """A SafeDumper that quotes the string `1e-3` and, having no aliases to read back, writes none."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_FLOATS = re.compile(
    r"""[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?)$""",
)


def _teach_floats() -> None:
    resolvers = {key: list(pairs) for key, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()}
    for first in "-+0123456789.":
        others = [pair for pair in resolvers.get(first, []) if pair[0] != "tag:yaml.org,2002:float"]
        resolvers[first] = [("tag:yaml.org,2002:float", _FLOATS), *others]
    _StrictLoader.yaml_implicit_resolvers = _StrictDumper.yaml_implicit_resolvers = resolvers


_teach_floats()


def _describe(model: type[BaseModel], problem: Any) -> str:
    location = [str(part) for part in problem["loc"]]
    dotted = ".".join(location)
    if problem["type"] == "extra_forbidden":
        known = dict(_dotted_keys(model))
        return f"unknown key {dotted!r}{_near_key(dotted, known)}"
    given = "" if isinstance(problem["input"], dict) else f" (given: {problem['input']!r})"
    return f"{dotted or 'configuration'}: {problem['msg'].removeprefix('Value error, ')}{given}"


def _near_key(dotted: str, known: Mapping[str, Any]) -> str:
    # Last parts are compared: a shared prefix would make `optim.zzz` look like `optim.lr`.
    parent, _, last = dotted.rpartition(".")
    siblings = {key.rpartition(".")[2]: key for key in known if key.rpartition(".")[0] == parent}
    near = [siblings[name] for name in difflib.get_close_matches(last, siblings, n=1, cutoff=0.6)]
    near += [key for key in known if key.rpartition(".")[2] == last]  # the right word in the wrong place
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known are {', '.join(siblings.values())}" if siblings else ""


def _dotted_keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, info in model.model_fields.items():
        yield prefix + name, info
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from _dotted_keys(info.annotation, f"{prefix}{name}.")
