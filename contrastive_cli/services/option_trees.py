"""Trees of options before they are a configuration: names within them, lengths that replace each other, doubles."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from contrastive_cli.core.config import Tree, did_you_mean, merge
from contrastive_cli.core.errors import UsageError
from contrastive_cli.data.datasets import find_dataset
from contrastive_cli.views.recipe import RECIPES

KEPT = {"encoder": ("weights",), "optim": ("warmup_fraction", "clip_gradient")}  # fields that outlive another name


def name_recipe(views: Any, *, default: str | None) -> Tree:
    """The fields of a recipe that is given by name, with what is given beside; None for no recipe by default."""
    if not isinstance(views, Mapping):
        raise UsageError(f"views: a mapping of the recipe's fields is needed (given: {views!r})")
    name = views.get("recipe", default)
    if name is None:
        return dict(views)
    if name not in RECIPES:
        raise UsageError(f"no recipe named {name!r}{did_you_mean(str(name), list(RECIPES))}")
    return merge(RECIPES[name].model_dump(), {key: value for key, value in views.items() if key != "recipe"})


def name_group(group: Any, *, views: Mapping[str, Any]) -> Tree:
    """The fields of a group of views: those of the run's `views`, and what the group says beside or by a recipe."""
    if not isinstance(group, Mapping):
        raise UsageError(f"view_groups: a list of mappings is needed, such as {{count: 2}} (given: {group!r})")
    return name_recipe(group, default=None) if "recipe" in group else merge(dict(views), group)


def agree_on_views(tree: Tree, *layers: Mapping[str, Any]) -> Tree:
    """The tree in which `view_groups` make `method.num_views` views, where a person said only one of the two.

    The last group takes the views that are left; groups that are said decide how many views a method takes. The first
    of the layers of what was said, highest first, that says either of them decides.
    """
    groups, method = tree.get("view_groups"), tree.get("method", {})
    if not isinstance(groups, list) or not all(isinstance(group, Mapping) for group in groups):
        return tree
    counts = [group.get("count", 1) for group in groups]
    if not all(isinstance(count, int) for count in counts):
        return tree
    pairs = [(layer.get("method", {}).get("num_views"), layer.get("view_groups") is not None) for layer in layers]
    wanted, has_groups = next((pair for pair in pairs if pair != (None, False)), (None, False))
    if has_groups and wanted is None:
        return {**tree, "method": {**method, "num_views": sum(counts)}}
    if has_groups or not isinstance(wanted, int) or wanted < sum(counts[:-1]):
        return tree
    last = {**groups[-1], "count": wanted - sum(counts[:-1])}
    return {**tree, "view_groups": groups[:-1] + ([last] if last["count"] else [])}


def merge_layers(*layers: Mapping[str, Any]) -> Tree:
    """Merge trees. What a higher layer replaces takes along what goes with it in the lower ones.

    `epochs` replaces `budget` and the other way round. Another encoder replaces the shape of the one before; weights
    that a lower layer names stay, and are asked whether they are of the encoder. Another optimizer replaces the rate
    and all that the one before was set to, but for the length of the warm-up and the bound of the gradient.
    """
    merged: Tree = {}
    for layer in layers:
        train = layer.get("train")
        given = {key for key in ("epochs", "budget") if isinstance(train, Mapping) and train.get(key) is not None}
        if len(given) == 1 and isinstance(merged.get("train"), dict):
            replaced = {"epochs", "budget", "plan"} - given
            merged["train"] = {key: value for key, value in merged["train"].items() if key not in replaced}
        for part, kept in KEPT.items():
            if names_another(layer, part, than=merged):
                merged[part] = {key: value for key, value in merged[part].items() if key in kept}
        merged = merge(merged, layer)
    return merged


def for_method(tree: Tree, *, name: str, fields: Collection[str]) -> Tree:
    """The tree of a configuration for this method; of the fields of another one, those that this one has too."""
    if not names_another({"method": {"name": name}}, "method", than=tree):
        return tree
    return {**tree, "method": {key: value for key, value in tree["method"].items() if key in fields}}


def own_sizes(preset: Tree, given: Mapping[str, Any], *, native: int) -> Tree:
    """The preset, without small views and stored pictures where they do not fit: they go with its size and encoder."""
    sizes = preset.get("dataset", {})
    other_size = given.get("dataset", {}).get("size") not in (None, sizes.get("size", native))
    if not other_size and not names_another(given, "encoder", than=preset):
        return preset
    kept = {key: value for key, value in sizes.items() if key not in ("view_size", "stored_size")}
    return {**preset, "dataset": kept}


def names_another(tree: Mapping[str, Any], key: str, *, than: Mapping[str, Any]) -> bool:
    """Whether both trees name what is under the key, and not the same."""
    name, other = name_of(tree, key, "auto"), name_of(than, key, "auto")
    return "auto" not in (name, other) and name != other


def name_of(tree: Mapping[str, Any], key: str, default: str) -> str:
    """The name of the method, dataset or encoder in a tree of options."""
    node = tree.get(key, {})
    if not isinstance(node, Mapping):
        raise UsageError(f"{key}: a mapping is needed, such as {{name: {default}}} (given: {node!r})")
    return str(node.get("name", default))


def light_recipe(dataset: str, *, size: int) -> str:
    """The views for learning from labels: light crops and flips, or the dataset's own where a flip is another class."""
    own = find_dataset(dataset).recipe_at(size)
    return "light" if RECIPES[own].flip_probability > 0 else own


def refuse_double(sets: Mapping[str, Any], flags: Mapping[str, Any], prefix: str = "") -> None:
    """Raise UsageError for a key that is given by --set and by its own option."""
    for key in sets.keys() & flags.keys():
        if isinstance(sets[key], Mapping) and isinstance(flags[key], Mapping):
            refuse_double(sets[key], flags[key], f"{prefix}{key}.")
        else:
            raise UsageError(f"{prefix}{key} is given by --set and by its own option")
