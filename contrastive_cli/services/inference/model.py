"""A trained run taken from disk and used: images in, embeddings out. `clr embed` reaches this module."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from contrastive_cli.core.choices import Layer, Precision
from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.manifest import Manifest
from contrastive_cli.core.runs import Run
from contrastive_cli.core.types import CountProgress, ImageFacts, Method, Uncertain
from contrastive_cli.data.cache import ImageSet
from contrastive_cli.embeddings.files import Embeddings
from contrastive_cli.engine.allocator import keep_freed_memory
from contrastive_cli.engine.checkpoint import checkpoint_mismatch_errors, load_checkpoint
from contrastive_cli.engine.device import choose_device, memory_errors
from contrastive_cli.engine.distributed import local_device
from contrastive_cli.engine.inference import map_images
from contrastive_cli.engine.precision import choose_precision
from contrastive_cli.methods import IMPORTED, load_method
from contrastive_cli.models.encoder import projector_of
from contrastive_cli.models.folding import folded_method
from contrastive_cli.services.configuration import PretrainConfig, build_method, read_run_config
from contrastive_cli.services.dataset_config import DatasetConfig
from contrastive_cli.services.inference.crops import pictures_of
from contrastive_cli.services.inference.identity import identity_of, preprocess_of, scaling_of
from contrastive_cli.services.inference.named_weights import loaded_weights
from contrastive_cli.views.preprocessing import Preprocessing

Rows = slice | NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """A run's trained method in evaluation mode, and the facts that say what its embeddings are.

    Attributes:
        method: As it was trained.
        embedder: The method with the batch norms of its encoder folded, which is what embeds.
    """

    run: Run
    manifest: Manifest
    config: PretrainConfig
    method: Method
    embedder: Method
    device: torch.device
    precision: Precision
    checkpoint: str

    @property
    def preprocessing(self) -> Preprocessing:
        """From uint8 to what the encoder sees."""
        return Preprocessing(size=self.manifest.size, mean=self.manifest.mean, std=self.manifest.std)

    @property
    def channels(self) -> int:
        """Channels of the images it was trained on."""
        return len(self.manifest.mean)

    def dataset_at(self, data_dir: Path | None) -> DatasetConfig:
        """The run's dataset, in another folder if one is given."""
        own = self.config.dataset
        return own if data_dir is None else own.model_copy(update={"data_dir": data_dir})


def load_model(run: Run, *, device: str = "auto") -> Model:
    """Load the newest intact checkpoint of `run`, or the weights that it was imported with.

    Raises:
        RunError: If there are none, or other ones than there were.
    """
    keep_freed_memory()
    manifest = run.manifest()
    config = read_run_config(run)
    chosen = local_device(choose_device(device))
    if manifest.status == "imported":
        method, checkpoint_sha256 = _load_imported(run, config, manifest)
    else:
        checkpoint = load_checkpoint(run)
        checkpoint_sha256 = checkpoint.sha256
        with memory_errors(chosen):
            method = _build(config, manifest)
        with checkpoint_mismatch_errors(run, checkpoint.name):
            method.load_state_dict(checkpoint.state["method"])
    method = _ready(method, chosen)
    # An imported encoder computes as its own library would: in single precision.
    same = chosen.type == manifest.device.partition(":")[0] or manifest.status == "imported"
    return Model(
        run=run,
        manifest=manifest,
        config=config,
        method=method,
        embedder=folded_method(method, manifest.encoder),
        device=chosen,
        precision=manifest.precision if same else choose_precision("auto", chosen),
        checkpoint=checkpoint_sha256,
    )


def _load_imported(run: Run, config: PretrainConfig, manifest: Manifest) -> tuple[Method, str]:
    """An imported encoder, and the sha256 of its weights.

    Raises:
        RunError: If its weights are not those that it was imported with.
    """
    facts = manifest.weights
    assert facts is not None, "a manifest of this status has them"
    encoder = loaded_weights(config, manifest, of=f"the encoder of {run.path}")
    return build_method(config, _facts(manifest), encoder=encoder), facts.sha256


def start_model(model: Model) -> Model:
    """The encoder as it came before it was trained.

    Raises:
        RunError: If its weights are other ones now.
        DataError: If they are gone.
    """
    facts = model.manifest.weights
    assert facts is not None, "only such runs are asked for it"
    encoder = loaded_weights(model.config, model.manifest, of=model.run.name)
    spec = load_method(IMPORTED)
    built = spec.build(spec.config(), encoder=encoder, images=_facts(model.manifest))
    method = _ready(built, model.device)
    return replace(
        model, method=method, embedder=folded_method(method, model.manifest.encoder), checkpoint=facts.sha256
    )


def random_model(model: Model, *, seed: int) -> Model:
    """The same architecture with fresh weights: the baseline that a pretraining has to beat."""
    torch.manual_seed(seed)
    method = _ready(_build(model.config, model.manifest), model.device)
    return replace(model, method=method, embedder=folded_method(method, model.manifest.encoder), checkpoint="random")


def embed_pixels(
    model: Model,
    pixels: NDArray[np.uint8],
    *,
    layer: Layer = "h",
    crops: int = 1,
    progress: CountProgress | None = None,
) -> NDArray[np.float32]:
    """uint8 [N, C, H, W] -> float32 [N, D], in evaluation mode; `layer` z goes on through the projector.

    With `crops` it is the mean over so many pictures of each image, see `crops.pictures_of`.

    Raises:
        UsageError: If the method has no projector and z is asked for.
    """
    return embed_with_uncertainty(model, pixels, layer=layer, crops=crops, progress=progress)[0]


def embed_with_uncertainty(
    model: Model,
    pixels: NDArray[np.uint8],
    *,
    layer: Layer = "h",
    crops: int = 1,
    progress: CountProgress | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """What `embed_pixels` returns, and the uncertainty [N] of a method that has one, of the images themselves.

    Raises:
        UsageError: If the method has no projector and z is asked for.
    """
    pictures = pictures_of(pixels, crops=crops, mirror=model.config.views.flip_probability > 0)
    prepare = model.preprocessing
    done = [_embed(model, picture, prepare=prepare, layer=layer, progress=progress) for picture in pictures]
    if len(done) == 1:
        return done[0]
    mean: NDArray[np.float64] = np.stack([vectors for vectors, _ in done]).mean(axis=0, dtype=np.float64)
    return mean.astype(np.float32), done[0][1]


def embed_prepared(
    model: Model, images: Tensor, *, layer: Layer = "h", progress: CountProgress | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """As `embed_with_uncertainty`, of images [N, C, S, S] float32 that were resized and normalized already.

    Raises:
        UsageError: If the method has no projector and z is asked for.
    """
    return _embed(model, images, prepare=lambda chunk: chunk, layer=layer, progress=progress)


def _embed(
    model: Model,
    pixels: NDArray[np.uint8] | Tensor,
    *,
    prepare: Callable[[Tensor], Tensor],
    layer: Layer,
    progress: CountProgress | None,
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    method, projector = model.embedder, _projector_for(model, layer)

    def forward(chunk: Tensor) -> tuple[Tensor, ...]:
        images = prepare(chunk)
        if isinstance(method, Uncertain):
            embedded, uncertainty = method.embed_with_uncertainty(images)
            more: tuple[Tensor, ...] = (uncertainty.float(),)
        else:
            embedded, more = method.embed(images), ()
        if projector is not None:
            embedded = projector(embedded)
        return embedded.float(), *more

    vectors, *uncertainty = map_images(
        forward,
        pixels,
        size=model.manifest.size,
        device=model.device,
        precision=model.precision,
        progress=progress,
    )
    return vectors.numpy(), uncertainty[0].numpy() if uncertainty else None


def width_of(model: Model, layer: Layer) -> int:
    """D of the embeddings of a layer.

    Raises:
        UsageError: If the method has no projector and z is asked for.
    """
    projector = _projector_for(model, layer)
    if projector is None:
        return model.method.embedding_dim
    with torch.no_grad():
        return int(projector(torch.zeros(1, model.method.embedding_dim, device=model.device)).shape[1])


def _projector_for(model: Model, layer: Layer) -> nn.Module | None:
    projector = projector_of(model.embedder)
    if layer == "z" and projector is None:
        raise UsageError(f"{model.manifest.method} has no projector, so there is no layer z", hint="use --layer h")
    return projector if layer == "z" else None


def embed_images(
    model: Model,
    images: ImageSet,
    *,
    rows: Rows = slice(None),
    layer: Layer = "h",
    crops: int = 1,
    progress: CountProgress | None = None,
) -> Embeddings:
    """Embed a split, or some rows of it, in their order; raw, see `spaces.placed`."""
    vectors, uncertainty = embed_with_uncertainty(
        model, images.images[rows], layer=layer, crops=crops, progress=progress
    )
    numbers = np.arange(images.num_samples, dtype=np.int64)[rows]
    return Embeddings(
        vectors=vectors,
        uncertainty=uncertainty,
        labels=images.labels[rows] if images.has_labels else None,
        classes=images.classes,
        paths=tuple(images.paths[number] for number in numbers),
        indices=numbers,
        model=identity_of(model, layer, crops=crops),
        preprocess=preprocess_of(model),
        dataset={
            "name": images.name,
            "split": images.split,
            "fingerprint": images.fingerprint,
            **scaling_of(model),
        },
    )


def _build(config: PretrainConfig, manifest: Manifest) -> Method:
    without_weights = config.encoder.model_copy(update={"weights": None})
    return build_method(config.model_copy(update={"encoder": without_weights}), _facts(manifest))


def _facts(manifest: Manifest) -> ImageFacts:
    return ImageFacts(
        count=manifest.dataset.count,
        channels=len(manifest.mean),
        size=manifest.size,
        num_classes=len(manifest.classes),
    )


def _ready(method: Method, device: torch.device) -> Method:
    return method.to(device=device, memory_format=torch.channels_last).eval().requires_grad_(False)
