from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import Field

from contrastive_cli.core.config import (
    MAX_YAML_BYTES,
    MAX_YAML_DEPTH,
    Config,
    _StrictLoader,
    build,
    did_you_mean,
    dump_yaml,
    merge,
    nested,
    parse_yaml,
    read_assignments,
    read_preset,
)
from contrastive_cli.core.errors import UsageError


class Inner(Config):
    rate: float = Field(0.1, gt=0)
    momentum: float = 0.9


class Outer(Config):
    inner: Inner = Inner()
    batch_size: int = Field(256, ge=2)
    name: str = "plain"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        ("-2.5e+3", -2500.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("12", 12),
        ("true", True),
        ("null", None),
        ("", None),
        ("[1, 2e-1, a]", [1, 0.2, "a"]),
        ("{a: {b: 1e-3}}", {"a": {"b": 1e-3}}),
        ("'1e-3'", "1e-3"),
        ("e3", "e3"),
        ("1e", "1e"),
        ("10.0.0.1", "10.0.0.1"),
        ("1-3", "1-3"),
    ],
)
def test_parse_yaml__plain_values(text: str, value: Any) -> None:
    parsed = parse_yaml(text, source="test")
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &x [1]\nb: *x", "aliases"),
        ("a: 1\nb: 2\na: 3", "duplicate key a"),
        ("outer: {b: 1, b: 2}", "duplicate key b"),
        ("a: !!python/object/apply:os.system ['true']", "tag"),
        ("a: !!python/name:os.system ''", "tag"),
        ("a: !!bool maybe", "tag"),
        ("a: !!timestamp soon", "tag"),
        ("a: !!binary aGVsbG8=", "tag"),
        ("!local 1", "tag"),
        ("a: [1, 2", "expected"),
        ("a: 1\n---\nb: 2", "single document"),
        ("a: \0", "special characters"),
        ("2026-13-45", "month"),
        ("9" * 5000, "digits"),
        ("? [1, 2]\n: 3", "unhashable"),
        ("<<: {a: 1}", "merge"),
    ],
)
def test_parse_yaml__refuses_in_one_line(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_yaml(text, source="here.yaml")
    assert caught.value.message.startswith("here.yaml: ")
    assert said in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ("{a: ", "}")])
def test_parse_yaml__depth_is_limited(opening: str, closing: str) -> None:
    def text(depth: int) -> str:
        return opening * depth + "1" + closing * depth

    assert parse_yaml(text(MAX_YAML_DEPTH), source="test")
    for depth in (MAX_YAML_DEPTH + 1, 100_000):
        with pytest.raises(UsageError, match="nested deeper"):
            parse_yaml(text(depth), source="test")


def test_strict_loader__many_keys_take_linear_time() -> None:
    def seconds(count: int) -> float:
        names = [yaml.ScalarNode("tag:yaml.org,2002:str", f"k{index}") for index in range(count)]
        node = yaml.MappingNode("tag:yaml.org,2002:map", [(name, name) for name in names])
        start = time.process_time()
        assert len(_StrictLoader("").construct_mapping(node, deep=True)) == count
        return time.process_time() - start

    assert seconds(16_000) < 10 * 32 * max(0.001, seconds(500))  # quadratic: 1000 times, linear: 32 times


def test_merge__later_layers_win_key_by_key() -> None:
    lower = {"inner": {"rate": 1.0, "momentum": 0.5}, "name": "a"}
    assert merge(lower, {"inner": {"rate": 2.0}}, {"name": "b"}) == {
        "inner": {"rate": 2.0, "momentum": 0.5},
        "name": "b",
    }
    assert merge({"inner": 3}, {"inner": {"rate": 1.0}}) == {"inner": {"rate": 1.0}}
    assert lower == {"inner": {"rate": 1.0, "momentum": 0.5}, "name": "a"}


def test_nested__builds_trees_and_refuses_conflicts() -> None:
    assert nested({"a.b": 1, "a.c.d": 2, "e": 3}) == {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    for conflict in ({"a": 1, "a.b": 2}, {"a.b": 2, "a": 1}, {"a.b": 1, "a.b.c": 2}):
        with pytest.raises(UsageError, match="set"):
            nested(conflict)


def test_read_assignments__values_and_lists() -> None:
    assert read_assignments(["optim.lr=1e-3", "views.sizes=[32, 16]", "name=a=b"]) == {
        "optim": {"lr": 1e-3},
        "views": {"sizes": [32, 16]},
        "name": "a=b",
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lr"], "'lr' is not of the form"),
        (["=1"], "not of the form"),
        (["a..b=1"], "not of the form"),
        (["a=1", "a=2"], "a is set twice"),
        (["a.b=1", "a={c: 2}"], "a is set twice"),
        (["a={c: 2}", "a.c=1"], "a.c"),
        (["a=[1"], "--set a: "),
    ],
)
def test_read_assignments__conflicts(words: list[str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_assignments(words)
    assert said in caught.value.message


def test_build__reports_every_problem_at_once() -> None:
    tree = {"inner": {"rat": 1, "rate": -1}, "batch_sise": 3, "batch_size": 1, "zebra": 0}
    with pytest.raises(UsageError) as caught:
        build(Outer, tree)
    problems = caught.value.message.split("; ")
    assert "unknown key 'inner.rat'" in problems
    assert "did you mean 'inner.rate'?" in problems
    assert "did you mean 'batch_size'?" in problems
    assert any(line.startswith("unknown key 'zebra'") for line in problems)
    assert any(line.startswith("inner.rate: ") and line.endswith("(given: -1)") for line in problems)
    assert any(line.startswith("batch_size: ") and line.endswith("(given: 1)") for line in problems)


def test_build__far_off_key_lists_its_siblings() -> None:
    with pytest.raises(UsageError, match=r"unknown key 'inner.zzz'; known are inner.rate, inner.momentum$"):
        build(Outer, {"inner": {"zzz": 1}})


def test_build__right_key_in_the_wrong_place() -> None:
    with pytest.raises(UsageError, match=r"unknown key 'momentum'; did you mean 'inner.momentum'\?$"):
        build(Outer, {"momentum": 0.5})


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"batch_size": True}, "batch_size: a number is needed (given: true)"),
        ({"inner": {"rate": False}}, "inner.rate: a number is needed (given: false)"),
    ],
)
def test_build__true_is_no_number(tree: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        build(Outer, tree)
    assert said in caught.value.message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_build__refuses_values_that_are_not_finite(value: float) -> None:
    with pytest.raises(UsageError, match=r"inner\.momentum"):
        build(Outer, {"inner": {"momentum": value}})


def test_build__the_result_is_frozen() -> None:
    config = build(Outer, {"inner": {"rate": 0.5}})
    assert (config.inner.rate, config.inner.momentum, config.batch_size) == (0.5, 0.9, 256)
    with pytest.raises(ValueError, match="frozen"):
        setattr(config, "name", "other")  # noqa: B010 - mypy knows that it is frozen


def test_did_you_mean__nearest_or_all() -> None:
    assert did_you_mean("simclrr", ["simclr", "byol"]) == "; did you mean 'simclr'?"
    assert did_you_mean("xyz", ["simclr", "byol"]) == "; known are byol, simclr"


@pytest.mark.parametrize(
    "value", ["1e-3", "0.1", "-1e5", "true", "", "2026-01-01", "a: b", "\u00e9\n", "12", 1e-07, 3, None]
)
def test_dump_yaml__is_read_back_as_it_was(value: Any) -> None:
    tree = {"a": {"b": value}, "c": [value, value]}
    assert parse_yaml(dump_yaml(tree), source="test") == tree


def test_dump_yaml__writes_no_aliases() -> None:
    shared = {"b": [1.0, 2.0]}
    tree = {"first": shared, "second": shared}
    assert parse_yaml(dump_yaml(tree), source="test") == tree


def test_read_preset__round_trip_and_refusals(tmp_path: Path) -> None:
    tree = {"optim": {"lr": 1e-05, "betas": [0.9, 0.999]}, "name": "1e-3", "none": None}
    file = tmp_path / "own.yaml"
    file.write_text(dump_yaml(tree))
    assert read_preset(str(file)) == tree
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert read_preset(str(tmp_path / "empty.yaml")) == {}
    (tmp_path / "list.yaml").write_text("[1, 2]\n")
    (tmp_path / "large.yaml").write_bytes(b"#" * (MAX_YAML_BYTES + 1))
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x01")
    said = {"list.yaml": "not a mapping", "large.yaml": "larger than", "binary.yaml": "", "absent.yaml": "cannot read"}
    for name, words in said.items():
        with pytest.raises(UsageError) as caught:
            read_preset(str(tmp_path / name))
        assert name in caught.value.message
        assert words in caught.value.message
    with pytest.raises(UsageError, match="no preset named 'no-such-preset'"):
        read_preset("no-such-preset")
