"""The parts of the documents that are written from the code, so that they cannot fall behind it.

    python -m scripts.reference            write them
    python -m scripts.reference --check    say which of them are old

docs/commands.md and docs/configuration.md are written whole. In docs/methods/NAME.md and docs/views.md only the table
between the two marks is written.
"""

from __future__ import annotations

import argparse
import inspect
import re
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer.main
from pydantic.fields import FieldInfo

from contrastive_cli.cli import app
from contrastive_cli.core.config import Config
from contrastive_cli.core.durations import parse_duration
from contrastive_cli.data.datasets import DATASETS
from contrastive_cli.engine.optim import OptimConfig
from contrastive_cli.methods import list_methods, load_method
from contrastive_cli.models.encoders import EncoderConfig
from contrastive_cli.services.configuration import PretrainConfig, TrainConfig
from contrastive_cli.services.dataset_config import DatasetConfig
from contrastive_cli.services.encoder_input import PreprocessConfig
from contrastive_cli.views.recipe import RECIPES, Recipe

DOCS = Path(__file__).parents[1] / "docs"
BEGIN, END = "<!-- fields: written by python -m scripts.reference -->", "<!-- end of fields -->"
WRITTEN = "<!-- This page is written by python -m scripts.reference. Edit the code, not the page. -->"
BOUNDS = {"gt": "above {}", "ge": "{} or more", "lt": "below {}", "le": "at most {}"}
WORDS = {
    "str": "text",
    "int": "whole number",
    "float": "number",
    "bool": "true, false",
    "Path": "path",
    "ViewGroup": "group",
}
WORDS |= {"integer": "whole number", "integer range": "whole number", "float range": "number"}
NUMBERS = {2: "two", 3: "three"}
INHERITED = (
    "name",
    "method",
    "dataset",
    "encoder",
    "preprocess",
    "views",
    "optim",
    "train",
)  # of a configuration: tables of their own


def pages() -> dict[Path, str]:
    """The text that each written page should have."""
    texts = {DOCS / "commands.md": command_page(), DOCS / "configuration.md": configuration_page()}
    for name in list_methods():
        path = DOCS / "methods" / f"{name}.md"
        table = field_table(load_method(name).config, prefix="method.")
        texts[path] = with_fields(path.read_text() if path.exists() else f"# {name}\n\n{BEGIN}\n{END}\n", table)
    views = DOCS / "views.md"
    texts[views] = with_fields(views.read_text(), field_table(Recipe, prefix="views."))
    return texts


def command_page() -> str:
    """Every command with its arguments and options, as `--help` shows them."""
    group = typer.main.get_command(app)
    lines = [WRITTEN, "", "# Commands", "", f"{group.help}", ""]
    lines += ["`clr COMMAND --help` shows the same. Results go to stdout, everything else goes to stderr.", ""]
    lines += [f"{group.epilog}", ""]
    for name, command in _commands(group):
        lines += [f"## clr {name}", *_help_text(command.help or ""), ""]
        parameters = [parameter for parameter in command.params if parameter.name != "help"]
        if parameters:
            lines += ["| | value | meaning |", "|---|---|---|"]
            lines += [_parameter_row(parameter) for parameter in parameters]
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _commands(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every command by the words that call it, those below a group after the group."""
    for name, command in group.commands.items():
        yield prefix + name, command
        if hasattr(command, "commands"):
            yield from _commands(command, f"{prefix}{name} ")


def configuration_page() -> str:
    """Every field of a configuration that is not a method's own."""
    lines = [WRITTEN, "", "# Configuration", ""]
    lines += ["Every field can be set on the command line, such as `--set optim.lr=2e-3`, or in a YAML file that"]
    lines += ["`--config` names. The order, lowest first: defaults, the data set's own preset, `--config`, `--set`,"]
    lines += ["named options. The fields `method.*` stand on [the pages of the methods](methods/index.md), the fields"]
    lines += ["`views.*` and `view_groups` on [the page of the views](views.md)."]
    lines += [
        "",
        "What a higher layer replaces takes along what goes with it: `train.epochs` replaces `train.budget`, another",
    ]
    lines += ["encoder all of `encoder.*` but `weights`, another optimizer all of `optim.*` but the warm-up and the"]
    lines += [
        "bound of the gradient, another method the fields that it has not, and another encoder or size a preset's"
    ]
    lines += ["small views."]
    sections: dict[str, type[Config]] = {
        "dataset": DatasetConfig,
        "encoder": EncoderConfig,
        "preprocess": PreprocessConfig,
        "optim": OptimConfig,
        "train": TrainConfig,
    }
    for section, model in sections.items():
        summary = (inspect.getdoc(model) or "").partition("\n")[0]
        lines += ["", f"## {section}", "", summary, "", *field_table(model, prefix=f"{section}.", keep_name=True)]
    lines += ["", "## Others", "", *field_table(PretrainConfig, prefix="")]
    lines += ["", "## Data sets", "", "| name | side | channels | splits | what |", "|---|---|---|---|---|"]
    for name, spec in DATASETS.items():
        lines.append(f"| `{name}` | {spec.size} px | {spec.channels} | {', '.join(spec.splits)} | {_cell(spec.help)} |")
    lines += ["", f"## Recipes of views\n\n`--set views.recipe=NAME`: {', '.join(f'`{name}`' for name in RECIPES)}."]
    return "\n".join(lines) + "\n"


def field_table(model: type[Config], *, prefix: str, keep_name: bool = False) -> list[str]:
    """The Markdown lines of one configuration model: field, default, allowed values, meaning."""
    meanings = documented_fields(model)
    rows = ["| field | default | allowed | meaning |", "|---|---|---|---|"]
    for name, info in model.model_fields.items():
        if name in INHERITED and not (keep_name and name == "name"):
            continue
        meaning = meanings.get(name) or info.description or ""
        default = "none" if info.default is None else f"`{_plain(info.default)}`"
        rows.append(f"| `{prefix}{name}` | {default} | {_cell(allowed(info))} | {_cell(meaning)} |")
    return rows if len(rows) > 2 else ["This method has no fields of its own."]


def documented_fields(model: type[Config]) -> dict[str, str]:
    """The texts below "Attributes:" in a docstring of Google's style."""
    _, _, block = (inspect.getdoc(model) or "").partition("Attributes:\n")
    found: dict[str, str] = {}
    for line in block.splitlines():
        if match := re.match(r"    (\w+): (.*)", line):
            found[match[1]] = match[2]
        elif found and line.startswith("        "):
            found[list(found)[-1]] += " " + line.strip()
    return found


def allowed(info: FieldInfo) -> str:
    """The type and the bounds of a field, in words."""
    rules = [*info.metadata, *_annotations(info.annotation)]
    if any(getattr(rule, "func", None) is parse_duration for rule in rules):
        return "seconds, or such as 15m, 2h"
    bounds = [
        pattern.format(f"{getattr(rule, key):,}")
        for rule in info.metadata
        for key, pattern in BOUNDS.items()
        if isinstance(getattr(rule, key, None), int | float)
    ]
    return ", ".join([_in_words(info.annotation), *bounds])


def _annotations(kind: Any) -> list[Any]:
    """What stands beside a type in `Annotated`, at any depth."""
    inner = [rule for part in get_args(kind) for rule in _annotations(part)]
    return [*getattr(kind, "__metadata__", ()), *inner]


def _in_words(kind: Any) -> str:
    """A type for people: `Literal["a", "b"] | None` is "a, b"."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _in_words(parts[0])
    if origin is Literal:
        return ", ".join(map(str, parts))
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_in_words(part) for part in parts if part is not type(None)))
    if origin is tuple:
        item = _in_words(parts[0])
        plural = item if item.endswith("s") else f"{item}s"
        return f"list of {plural}" if parts[1:] == (...,) else f"{NUMBERS.get(len(parts), len(parts))} {plural}"
    return WORDS.get(getattr(kind, "__name__", ""), getattr(kind, "__name__", str(kind)))


def with_fields(text: str, table: list[str]) -> str:
    """The page's text with the table between its marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"a page lacks the marks {BEGIN} and {END}")
    return f"{before}{begin}\n\n" + "\n".join(table) + f"\n\n{end}{after}"


def _help_text(text: str) -> Iterator[str]:
    """A docstring's paragraphs; the lines that begin with `clr` become examples."""
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.startswith("clr "):
            command, bracket, notice = " ".join(paragraph.split()).partition(" (")
            yield from ("", f"`{command}`{bracket}{notice}")
        else:
            yield from ("", paragraph)


def _parameter_row(parameter: Any) -> str:
    name = " ".join(f"`{option}`" for option in parameter.opts)
    if not parameter.opts[0].startswith("-"):
        name = f"`{parameter.metavar or parameter.opts[0].upper()}`"
    meaning = getattr(parameter, "help", None) or ""
    default = parameter.default
    if isinstance(default, str | int | float | Path) and not isinstance(default, bool):
        meaning += f" Default: `{default}`."
    if parameter.required:
        meaning += " Needed."
    return f"| {name} | {_cell(_values(parameter))} | {_cell(meaning.strip())} |"


def _values(parameter: Any) -> str:
    kind = parameter.type
    if getattr(parameter, "is_flag", False):
        return ""
    if getattr(kind, "choices", None):
        return ", ".join(str(choice) for choice in kind.choices)
    low, high = getattr(kind, "min", None), getattr(kind, "max", None)
    bounds = " to ".join(f"{bound:,}" for bound in (low, high) if bound is not None)
    word = WORDS.get(str(kind.name), str(kind.name))
    return f"{word}, {bounds if high is not None else f'{low} or more'}" if bounds else word


def _plain(value: object) -> str:
    if isinstance(value, Config):
        return "its defaults"
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def outdated(texts: Mapping[Path, str]) -> list[str]:
    """The names of the pages that are not what the code says."""
    return [path.relative_to(DOCS).as_posix() for path, text in texts.items() if _read(path) != text]


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def main() -> None:
    """Write or check the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, end with 1 if a page is old")
    arguments = parser.parse_args()
    texts = pages()
    old = outdated(texts)
    if arguments.check and old:
        raise SystemExit(f"old: {', '.join(old)}; run python -m scripts.reference")
    for name in old:
        (DOCS / name).write_text(texts[DOCS / name])


if __name__ == "__main__":
    main()
