"""The images that a run learned from: what they are, how many of what, some of them, and the views made of them."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

import numpy as np

from contrastive_cli.core.errors import ClrError
from contrastive_cli.core.manifest import Manifest
from contrastive_cli.core.runs import Run
from contrastive_cli.core.wording import counted
from contrastive_cli.data.cache import ImageSet
from contrastive_cli.data.datasets import find_dataset
from contrastive_cli.services.configuration import read_run_config
from contrastive_cli.services.display import for_display
from contrastive_cli.services.figures.figures import SampledViews, sample_views
from contrastive_cli.services.opening import open_images
from contrastive_cli.services.report.heads import has_own_images, missing_images
from contrastive_cli.viz.report_page import Block, Strip, Table, tiles

VIEWED: Final = 8  # images that are shown with their views
SAMPLES: Final = 24
FEW_CLASSES: Final = 12  # that are columns
MOST_CLASSES: Final = 100  # that are rows
TILE: Final = 56


def data_blocks(run: Run, *, data_dir: Path | None) -> list[Block]:
    """Facts, samples, views, and the images of each class; where the images are gone, what the manifest still knows."""
    manifest = run.manifest()
    if not has_own_images(run):
        return [_facts({"seen as": f"{manifest.size} x {manifest.size} pixels", **_prepared(manifest)})]
    facts = {
        "data set": manifest.dataset.name,
        "trained on": f"{manifest.dataset.count:,} images of {manifest.dataset.split}",
        "seen as": f"{manifest.size} x {manifest.size} pixels, {counted(len(manifest.mean), 'channel')}",
        "fingerprint": manifest.dataset.fingerprint[:16],
        **_prepared(manifest),
    }
    try:
        sampled = sample_views(run, count=VIEWED, data_dir=data_dir)
    except ClrError as error:
        return [_facts(facts), missing_images(run, f"No pictures: {error.message}")]
    splits = _splits(run, sampled.images, data_dir=data_dir)
    facts["splits"] = ", ".join(f"{name} {images.num_samples:,}" for name, images in splits.items())
    if sampled.images.fingerprint != manifest.dataset.fingerprint:
        facts["changed"] = "the images here are not those that the run was trained on"
    if sampled.images.left_out:
        facts["left out"] = f"{len(sampled.images.left_out):,} files that cannot be used, see bad_files.csv"
    return [_facts(facts), _samples(run, sampled.images), *_views(sampled), *_classes(splits)]


def _prepared(manifest: Manifest) -> dict[str, str]:
    return {
        "mean of the channels": ", ".join(f"{value:.3f}" for value in manifest.mean),
        "standard deviation": ", ".join(f"{value:.3f}" for value in manifest.std),
    }


def _facts(facts: dict[str, str]) -> Table:
    return Table(head=(), rows=tuple(facts.items()), wordy=True)


def _splits(run: Run, trained: ImageSet, *, data_dir: Path | None) -> dict[str, ImageSet]:
    """The split that was trained on, and the others that are there."""
    dataset = read_run_config(run).dataset
    dataset = dataset.model_copy(update={"download": False, "data_dir": data_dir or dataset.data_dir})
    manifest = run.manifest()
    found = {trained.split: trained}
    for split in find_dataset(dataset.name).splits:
        if split not in found:
            with contextlib.suppress(ClrError):
                found[split] = open_images(dataset, split=split, size=manifest.decoded_size, known=manifest)
    return found


def _samples(run: Run, images: ImageSet) -> Strip:
    """Images spread evenly over the classes, drawn by a fixed seed."""
    order = np.random.default_rng(0).permutation(images.num_samples)
    rank = np.zeros(len(order), np.int64)  # how many of its class come before each image
    for label in np.unique(images.labels[order]):
        members = np.flatnonzero(images.labels[order] == label)
        rank[members] = np.arange(len(members))
    chosen = order[np.lexsort((images.labels[order], rank))[:SAMPLES]]
    names = [images.classes[label] if 0 <= label < len(images.classes) else "" for label in images.labels[chosen]]
    pixels = for_display(np.asarray(images.images[chosen]), read_run_config(run).dataset)
    return Strip(title="Samples", tiles=tiles(pixels, texts=names), size=TILE)


def _views(sampled: SampledViews) -> list[Block]:
    """A row of images above the rows of views, aligned by their order."""
    as_bytes = (np.nan_to_num(sampled.views).clip(0, 1) * 255).round().astype(np.uint8)
    rows: list[Block] = [Strip(title="Images", tiles=tiles(sampled.originals), size=TILE, wraps=False)]
    for number, views in enumerate(as_bytes):
        title = "and the views that were made of them in the first epoch" if number == 0 else ""
        rows.append(Strip(title=title, tiles=tiles(views), size=TILE, wraps=False))
    return rows


def _classes(splits: dict[str, ImageSet]) -> list[Block]:
    """How many images of each class are in each split; beyond many classes, how many the classes have."""
    labeled = {name: images for name, images in splits.items() if images.has_labels}
    if not labeled:
        return []
    classes = max((images.classes for images in labeled.values()), key=len)
    counts = {
        name: np.bincount(images.labels[images.labels >= 0], minlength=len(classes)) for name, images in labeled.items()
    }
    if len(classes) <= FEW_CLASSES:
        head = ("images", *classes)
        return [Table(head=head, rows=tuple((name, *(f"{one:,}" for one in own)) for name, own in counts.items()))]
    if len(classes) <= MOST_CLASSES:
        rows = [(name, *(f"{own[label]:,}" for own in counts.values())) for label, name in enumerate(classes)]
        unlabeled = tuple(f"{int((images.labels < 0).sum()):,}" for images in labeled.values())
        if set(unlabeled) != {"0"}:
            rows.append(("without a label", *unlabeled))
        return [Table(head=("class", *counts), rows=tuple(rows))]
    rows = [
        (name, f"{(own > 0).sum():,}", f"{own[own > 0].min():,}", f"{np.median(own[own > 0]):,.0f}", f"{own.max():,}")
        for name, own in counts.items()
    ]
    head = ("split", "classes with images", "images of the smallest", "of the median", "of the largest")
    return [Table(head=head, rows=tuple(rows))]
