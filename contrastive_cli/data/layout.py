"""Read a folder tree by its names: which folders are splits, which are classes, and where that is doubtful.

Nothing is opened here: what is read are the paths of the pictures, so a folder without pictures does not exist.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "trn", "trainval"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "validating", "vld"), "val"),
    **dict.fromkeys(("dev", "devel", "eval", "evaluation", "evaluate", "evaluating"), "val"),
    **dict.fromkeys(("test", "tests", "testing", "tst", "holdout", "heldout"), "test"),
    **dict.fromkeys(("unlabeled", "unlabelled"), "unlabeled"),
}
FILLERS = frozenset(
    {
        *("set", "sets", "data", "dataset", "datasets", "split", "splits", "part", "sample", "samples", "seg"),
        *(
            "image",
            "images",
            "img",
            "imgs",
            "picture",
            "pictures",
            "pic",
            "pics",
            "photo",
            "photos",
            "jpg",
            "jpeg",
            "png",
        ),
        *("folder", "folders", "dir", "file", "files"),
    }
)
# Folders with another kind of picture of the same thing, side by side with the pictures, in letters only.
SIDE_FOLDERS = frozenset(
    {
        *("images", "image", "imgs", "img", "pictures", "photos", "jpegimages", "masks", "mask", "labels", "label"),
        *("annotations", "annotation", "gt", "groundtruth", "segmentationclass", "segmentationobject"),
        *("segmentation", "segmentations", "imagesets", "maskimages", "imagesmasks", "labelimages"),
    }
)
_COMPOUND = re.compile(rf"({'|'.join(SPLIT_WORDS)})(set|data|dataset|images?|imgs?|dir|split|folder|files)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """How a tree is read. All folders are posix paths below its root; "" is the root itself.

    Attributes:
        base: The folder that holds the splits or classes, after folders that hold one folder only.
        splits: The folder of each split; empty if the tree is not laid out by splits.
        parts: For each file the split that its folder belongs to; None beside the splits, or without any.
        owners: For each file the class folder that it sits in; None if it sits in none.
        doubt: What was seen, if the reading is doubtful: it should not be used.
        way_out: What to do about that.
        doubt_is_of_splits: Whether it is about the splits, so that it stays where the classes are known.
    """

    base: str = ""
    splits: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[str | None, ...] = ()
    owners: tuple[str | None, ...] = ()
    doubt: str | None = None
    way_out: str | None = None
    doubt_is_of_splits: bool = False


@dataclass(slots=True)
class _Folder:
    path: str = ""
    loose: int = 0  # pictures that lie directly in it
    children: dict[str, _Folder] = field(default_factory=dict)


def read_layout(names: Sequence[str], *, whole_classes: bool = False, as_classes: bool = False) -> Layout:
    """Read the posix paths of pictures below a root.

    Splits are folders whose names say so, as people write them: Training, test_set, seg_train, val2017, valid. There
    must be one for training, and either another or no other folder: `train` beside `plane` and `car` is a class.

    Args:
        names: Paths of the pictures.
        whole_classes: Whether the splits have different classes on purpose, as with people's faces.
        as_classes: Take every folder for a class, whatever its name.
    """
    tree, nodes = _build(names)
    base = _descend(tree, inside_split=False)
    found, doubled = ({}, None) if as_classes else _find_splits(base)
    inner = {split: _descend(folder, inside_split=True) for split, folder in found.items()}
    splits = {split: folder.path for split, folder in found.items()}
    places = {path: _place(path, base=base, found=found, inner=inner) for path in nodes}
    folders = [name.rpartition("/")[0] for name in names]
    parts = [places[folder][0] for folder in folders]
    owners = [places[folder][1] for folder in folders]
    if found and not whole_classes:
        owners = _without_foreign(parts, owners)
    doubt, way_out = doubled or (None, None)
    if doubt is None and not whole_classes:
        doubt, way_out = _doubt_classes(inner.get("train", base), is_split=bool(found)) or (None, None)
    return Layout(
        base=base.path,
        splits=splits,
        parts=tuple(parts),
        owners=tuple(owners),
        doubt=doubt,
        way_out=way_out,
        doubt_is_of_splits=doubled is not None,
    )


def split_of(name: str) -> tuple[str, tuple[str, ...]] | None:
    """The split that a folder's name speaks of, and the words beside that mean something; None if it names none."""
    words = [part for word in words_of(name) for part in _parts_of(word)]
    named = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
    rest = tuple(word for word in words if word not in SPLIT_WORDS and word not in FILLERS and not word.isdigit())
    if named == {"train", "val"}:
        return "train", rest
    if "unlabeled" in named:
        return "unlabeled", rest
    return (named.pop(), rest) if len(named) == 1 else None


def words_of(name: str) -> list[str]:
    """Words and numbers of a name in lower case: "TrainingSet_2" -> training, set, 2."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return re.findall(r"[^\W\d_]+|\d+", apart.lower())


def _parts_of(word: str) -> tuple[str, ...]:
    found = _COMPOUND.fullmatch(word)
    return (word,) if found is None else (found[1], found[2])


def _build(names: Iterable[str]) -> tuple[_Folder, dict[str, _Folder]]:
    root = _Folder()
    nodes = {"": root}

    def node(path: str) -> _Folder:
        if path not in nodes:
            parent, _, name = path.rpartition("/")
            nodes[path] = node(parent).children[name] = _Folder(path=path)
        return nodes[path]

    for name in names:
        node(name.rpartition("/")[0]).loose += 1
    return root, nodes


def _descend(folder: _Folder, *, inside_split: bool) -> _Folder:
    """Go through folders that hold one folder with pictures and no picture."""
    while not folder.loose and len(folder.children) == 1:
        (name, child), *_ = folder.children.items()
        is_wrapper = bool(child.children) or (inside_split and (_is_filler(name) or split_of(name) is not None))
        if not is_wrapper:
            break
        folder = child
    return folder


def _is_filler(name: str) -> bool:
    words = words_of(name)
    return bool(words) and all(word in FILLERS for word in words)


def _is_side_folder(name: str) -> bool:
    return "".join(words_of(name)) in SIDE_FOLDERS


def _find_splits(base: _Folder) -> tuple[dict[str, _Folder], tuple[str, str] | None]:
    """The folders of the splits, and a doubt where two folders are the same split."""
    groups: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for name in sorted(base.children):
        if (named := split_of(name)) is not None:
            groups.setdefault(named[1], {}).setdefault(named[0], []).append(name)
    for rest, group in groups.items():
        if rest and len(groups) > 1:  # train_cat, train_dog, test_cat, test_dog; beside train and test they are others
            continue
        if "train" in group and (len(group) > 1 or len(base.children) == 1):
            doubled = next(((split, names) for split, names in group.items() if len(names) > 1), None)
            found = {split: base.children[names[0]] for split, names in group.items()}
            if doubled is None:
                return found, None
            split, names = doubled
            return found, (
                f"the folders {_listed(names)} can both be the split {split}",
                f"keep one of them: move {names[-1]} out of the folder, or give it a name that is no split's",
            )
    return {}, None


def _place(
    path: str, *, base: _Folder, found: Mapping[str, _Folder], inner: Mapping[str, _Folder]
) -> tuple[str | None, str | None]:
    """Split and class of the pictures that lie in a folder."""
    for split, folder in found.items():
        if _is_below(path, folder.path):
            return split, None if split == "unlabeled" else _first_below(path, inner[split].path)
    return None, None if found else _first_below(path, base.path)


def _is_below(path: str, folder: str) -> bool:
    return not folder or path == folder or path.startswith(f"{folder}/")


def _first_below(path: str, folder: str) -> str | None:
    if path == folder or not _is_below(path, folder):
        return None
    return path[len(folder) + 1 if folder else 0 :].split("/", 1)[0]


def _without_foreign(parts: Sequence[str | None], owners: Sequence[str | None]) -> list[str | None]:
    """The owners without those of a split whose one folder is no class of train: test/unknown/ has no labels."""
    known = {owner for part, owner in zip(parts, owners, strict=True) if part == "train"}
    foreign = set()
    for split in {part for part in parts if part not in (None, "train")}:
        named = {owner for part, owner in zip(parts, owners, strict=True) if part == split} - {None}
        if len(named) == 1 and not named & known:
            foreign.add(split)
    return [None if part in foreign else owner for part, owner in zip(parts, owners, strict=True)]


AS_CLASSES = "`--layout classes` takes every folder for a class, `--unlabeled` none"


def _doubt_classes(folder: _Folder, *, is_split: bool) -> tuple[str, str] | None:
    """What speaks against taking the sub-folders of a folder for classes, and what to do."""
    children = folder.children
    if len(children) < 2:
        return None
    where = f" of {folder.path}" if folder.path else ""
    named = [name for name in sorted(children) if split_of(name) is not None]
    if named and not is_split and not (_is_the_vehicle(named) and len(children) > 2):
        return (
            f"the folders{where} are {_listed(sorted(children))}, and {_listed(named)} can be a split or a class",
            f"for splits give two of them names like train and test, and move others away; {AS_CLASSES}",
        )
    if all(_is_side_folder(name) for name in children):
        return (
            f"the folders{where} are {_listed(sorted(children))}, which are kinds of files, not classes",
            f"give the one with the pictures by --data-dir; {AS_CLASSES}",
        )
    below = [{name for name in child.children if not _is_filler(name)} for child in children.values()]
    shared, everything = set.intersection(*below), set.union(*below)
    if shared and 2 * len(shared) >= len(everything) and not any(child.loose for child in children.values()):
        example = next(iter(children.values())).path
        return (
            f"the folders{where} are {_listed(sorted(children))}, and all of them hold {_listed(sorted(shared))}: "
            "it is not clear which of the two are the classes",
            f"if it is {_listed(sorted(shared))}, give one folder by --data-dir (.../{example}), or name the folders "
            f"above as splits, such as train and test; {AS_CLASSES}",
        )
    return None


def _is_the_vehicle(named: Sequence[str]) -> bool:
    return [name.lower() for name in named] in (["train"], ["trains"])


def _listed(names: Sequence[str], most: int = 10) -> str:
    return ", ".join(names[:most]) + (f", ... ({len(names)} in all)" if len(names) > most else "")
