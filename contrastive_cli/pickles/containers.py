"""Stand-ins for the dicts of `collections` that people pickle: plain dicts come out, nothing of theirs is called."""

from __future__ import annotations

from typing import Any

from contrastive_cli.pickles.arrays import PickledArray, carry_out
from contrastive_cli.pickles.refusals import Global, RefusedError

_FACTORIES = ("list", "dict", "set", "tuple", "int", "float", "str")


def key_of(value: Any) -> str | int | bytes:
    """A key of a dict: text, bytes or a number that fits 64 bits, also as numpy's scalars of them.

    Raises:
        RefusedError: If it is anything else.
    """
    if type(value) is PickledArray and value.plan is not None and value.plan.is_scalar:
        value = carry_out(value.plan).item()
    if type(value) is memoryview:
        value = value.tobytes()
    # Other keys are rare in data, and long integers can be chosen so that all their hashes are equal.
    if type(value) not in (str, bytes) and (type(value) is not int or abs(value) >= 1 << 63):
        raise RefusedError(f"a dict has a key of the type {type(value).__name__}")
    return value  # type: ignore[no-any-return]


def _ordered_dict(pairs: Any = None, /) -> dict[Any, Any]:
    """Empty and filled later, or, of Python 2, made from a list of pairs."""
    if pairs is None:
        return {}
    if type(pairs) is not list or any(type(pair) not in (list, tuple) or len(pair) != 2 for pair in pairs):
        raise RefusedError("an OrderedDict is made in an unusual way")
    return {key_of(key): value for key, value in pairs}


def _default_dict(factory: Any = None, /) -> dict[Any, Any]:
    if factory is not None and factory not in _FACTORY_NAMES.values():
        raise RefusedError("a defaultdict is made in an unusual way")
    return {}


def _never(*_: Any) -> Any:
    raise RefusedError("it calls a type of Python")


_FACTORY_NAMES = {
    f"{module}.{name}": Global(f"builtins.{name}", _never)
    for module in ("builtins", "__builtin__")
    for name in _FACTORIES
}
CONTAINER_NAMES: dict[str, Global] = {
    "collections.OrderedDict": Global("collections.OrderedDict", _ordered_dict),
    "collections.defaultdict": Global("collections.defaultdict", _default_dict),
    **_FACTORY_NAMES,
}
