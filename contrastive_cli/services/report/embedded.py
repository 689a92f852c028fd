"""What the encoder makes of test images now: the map, neighbors that are right and wrong, the surest and the others."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.choices import ProjectionKind, SpaceKind
from contrastive_cli.core.errors import ClrError
from contrastive_cli.core.runs import Run
from contrastive_cli.core.types import CountProgress
from contrastive_cli.data.cache import ImageSet
from contrastive_cli.data.loader import draw_positions
from contrastive_cli.embeddings.files import Embeddings
from contrastive_cli.embeddings.search.nearest_neighbors import nearest_neighbors
from contrastive_cli.services.display import for_display
from contrastive_cli.services.evaluation.predictions import Predictions
from contrastive_cli.services.figures.embedding_map import Mapped, project_embeddings
from contrastive_cli.services.inference.model import Model, embed_with_uncertainty, load_model
from contrastive_cli.services.inference.spaces import kept_placement
from contrastive_cli.services.inference.splits import open_split, open_test_split
from contrastive_cli.services.report.heads import has_own_images, knows_classes, missing_head, missing_images
from contrastive_cli.viz.embedding_map import EmbeddingMap
from contrastive_cli.viz.report_page import Block, Missing, Sentence, Strip, draw, tiles
from contrastive_cli.viz.scatter import scatter

NEIGHBORS: Final = 8
QUERIES: Final = 4  # of each kind
ENDS: Final = 12  # images at either end of the certainty
TILE: Final = 56


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Embedded:
    """M images of a split and their embeddings; `shown` [M, C, H, W] are their channels for a figure.

    Attributes:
        rows: [M] positions in the split.
        vectors: [M, D] float32, in the space that the run chose.
        kind: Which space that is.
        uncertainty: [M] float32 of a method that has one.
        judged: Whether a head can be judged on them: some are of classes that were trained on.
    """

    images: ImageSet
    rows: NDArray[np.int64]
    vectors: NDArray[np.float32]
    kind: SpaceKind
    uncertainty: NDArray[np.float32] | None
    shown: NDArray[np.uint8]
    model: Model
    judged: bool = True

    @property
    def labels(self) -> NDArray[np.int64]:
        """[M], -1 where unknown."""
        found: NDArray[np.int64] = self.images.labels[self.rows]
        return found

    def name(self, label: int) -> str:
        """The name of a class; its number if it has none, nothing where the class is unknown."""
        if label < 0:
            return ""
        return self.images.classes[label] if label < len(self.images.classes) else str(label)


def embed_test_images(
    run: Run, *, limit: int, data_dir: Path | None, device: str, seed: int, progress: CountProgress | None
) -> Embedded | Missing:
    """Embed at most `limit` images that were not trained on, or say why that cannot be."""
    if not has_own_images(run):
        command = shlex.join(["clr", "embed", "--run", str(run.path), "--dataset", "NAME", "--data-dir", "FOLDER"])
        return Missing(what="The encoder came with its weights and has no images of its own.", command=command)
    try:
        model = load_model(run, device=device)
        dataset = model.dataset_at(data_dir).model_copy(update={"download": False})
        try:
            images = open_test_split(model, dataset=dataset, progress=progress)
        except ClrError:  # a folder whose pictures are all trained on
            images = open_split(model, run.manifest().dataset.split, dataset=dataset, progress=progress)
        rows = draw_positions(images.num_samples, limit=limit, seed=seed)
        pixels = np.asarray(images.images[rows])
        where = kept_placement(model)
        vectors, uncertainty = embed_with_uncertainty(model, pixels, layer=where.layer, progress=progress)
    except ClrError as error:
        return missing_images(run, f"No image could be embedded: {error.message}")
    return Embedded(
        images=images,
        rows=rows,
        vectors=where.enter(vectors),
        kind=where.kind or "raw",
        uncertainty=uncertainty,
        shown=for_display(pixels, model.config.dataset),
        model=model,
        judged=knows_classes(model, images, dataset=dataset),
    )


def map_blocks(run: Run, embedded: Embedded | Missing, *, seed: int, progress: CountProgress | None) -> list[Block]:
    """The t-SNE map, or PCA of very few images, and how to get the one to explore."""
    if isinstance(embedded, Missing):
        return [embedded]
    count = len(embedded.vectors)
    kind: ProjectionKind = "tsne" if count > 3 else "pca"
    mapped = Mapped(
        embeddings=Embeddings(
            vectors=embedded.vectors,
            labels=embedded.labels if embedded.images.has_labels else None,
            classes=embedded.images.classes,
        ),
        images=embedded.images,
    )
    shown = project_embeddings(mapped, np.arange(count), projections=(kind,), seed=seed, progress=progress)
    title = f"{embedded.images.name} {embedded.images.split}, {kind}"
    measure = "cosine" if embedded.kind == "raw" else "cosine, whitened"
    caption = f"{count} of {embedded.images.num_samples} images, {measure}, seed {seed}"
    figure = partial(_scatter, shown, title, caption)
    page = f"Pictures, neighbors and search: clr plot embeddings --run {shlex.quote(str(run.path))} --out map.html"
    return [draw(figure, alt=title, suffix=".webp"), Sentence(text=page)]


def _scatter(shown: EmbeddingMap, title: str, caption: str, path: Path) -> None:
    ((_, coordinates),) = shown.coordinates.items()
    scatter(coordinates, labels=shown.labels, classes=shown.classes, title=title, caption=caption, path=path)


def retrieval_blocks(embedded: Embedded | Missing, *, seed: int) -> list[Block]:
    """Images beside their nearest neighbors: where the nearest is of the class, and where it is not."""
    if isinstance(embedded, Missing):
        return [embedded]
    count = len(embedded.vectors)
    if count < 2:
        return [Sentence(text="One image has no neighbors.")]
    found = nearest_neighbors(embedded.vectors, k=min(NEIGHBORS, count - 1))
    order = np.random.default_rng(seed).permutation(count)
    labels = embedded.labels
    known = (labels[order] >= 0) & (labels[found.indices[order, 0]] >= 0)
    if not known.any():
        return [_beside(embedded, found.indices, int(row), title="") for row in order[:QUERIES]]
    right = labels[order] == labels[found.indices[order, 0]]
    share = 100 * right[known].mean()
    blocks: list[Block] = [
        Sentence(text=f"The nearest of {count - 1:,} other images is of the same class for {share:.1f} %.")
    ]
    for title, chosen in (("Right", order[known & right]), ("Wrong", order[known & ~right])):
        for number, row in enumerate(chosen[:QUERIES]):
            blocks.append(_beside(embedded, found.indices, int(row), title=title if number == 0 else ""))
    return blocks


def _beside(embedded: Embedded, indices: NDArray[np.int64], row: int, *, title: str) -> Strip:
    """One image, then its neighbors, the nearest first, each marked as right or wrong where that is known."""
    near = indices[row]
    own, others = int(embedded.labels[row]), embedded.labels[near]
    marks = ["query", *("" if min(own, other) < 0 else "right" if other == own else "wrong" for other in others)]
    texts = [embedded.name(own), *(embedded.name(int(other)) for other in others)]
    shown = tiles(embedded.shown[[row, *near]], texts=texts, marks=marks)
    return Strip(title=title, tiles=shown, size=TILE, wraps=False)


def certainty_blocks(
    run: Run, embedded: Embedded | Missing, predictions: Predictions | None, *, data_dir: Path | None
) -> list[Block]:
    """The most and the least certain images, by the method's own uncertainty, else by the linear head's probability."""
    if isinstance(embedded, Missing):
        return [embedded]
    if embedded.uncertainty is not None:
        order = np.argsort(embedded.uncertainty, kind="stable")
        ends = {"Most certain": order[:ENDS], "Least certain": order[::-1][:ENDS]}
        blocks: list[Block] = [Sentence(text="By the uncertainty that the method itself gives; larger is less sure.")]
        for title, chosen in ends.items():
            texts = [f"{embedded.name(int(embedded.labels[row]))} {embedded.uncertainty[row]:.3g}" for row in chosen]
            blocks.append(Strip(title=title, tiles=tiles(embedded.shown[chosen], texts=texts), size=TILE))
        return blocks
    if predictions is None or predictions.confidence is None:
        what = f"{run.manifest().method} has no uncertainty, and no head was fitted."
        return [missing_head(run, what, judged=embedded.judged)]
    try:
        dataset = embedded.model.dataset_at(data_dir).model_copy(update={"download": False})
        images = open_split(embedded.model, predictions.split, dataset=dataset)
    except ClrError as error:
        return [missing_images(run, error.message)]
    if images.fingerprint != predictions.fingerprint or max(predictions.rows) >= images.num_samples:
        return [missing_head(run, "The head was fitted with other images than are here.")]
    return _by_head(embedded, images, predictions)


def _by_head(embedded: Embedded, images: ImageSet, predictions: Predictions) -> list[Block]:
    confidence, correct = np.asarray(predictions.confidence), predictions.correct
    order = np.argsort(confidence, kind="stable")
    surely_wrong = order[::-1][~correct[order[::-1]]]
    ends = {
        "Most certain": order[::-1][:ENDS],
        "Least certain": order[:ENDS],
        "Most certain of what is wrong": surely_wrong[:ENDS],
    }
    text = "By the probability that the linear head gives to the class that it names; dashed is wrong."
    blocks: list[Block] = [Sentence(text=text)]
    for title, chosen in ends.items():
        if len(chosen):
            pixels = np.asarray(images.images[np.asarray(predictions.rows)[chosen]])
            texts = [f"{_said(predictions, number)} {100 * confidence[number]:.0f} %" for number in chosen]
            marks = ["right" if correct[number] else "wrong" for number in chosen]
            shown = for_display(pixels, embedded.model.config.dataset)
            blocks.append(Strip(title=title, tiles=tiles(shown, texts=texts, marks=marks), size=TILE))
    return blocks


def _said(predictions: Predictions, number: int) -> str:
    """The class that is named; and the right one after it, where it is another."""
    named = predictions.class_name(predictions.predicted[number])
    if predictions.predicted[number] == predictions.targets[number]:
        return named
    return f"{named}, is {predictions.class_name(predictions.targets[number])},"
