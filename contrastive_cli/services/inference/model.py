"""A trained run taken from disk and used: images in, embeddings out. `clr embed` reaches this module."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.manifest import Manifest
from contrastive_cli.core.runs import Run
from contrastive_cli.core.types import CountProgress, ImageFacts, Uncertain
from contrastive_cli.data.cache import ImageSet
from contrastive_cli.embeddings.files import Embeddings
from contrastive_cli.engine.allocator import keep_freed_memory
from contrastive_cli.engine.checkpoint import does_not_fit, load_checkpoint
from contrastive_cli.engine.device import choose_device, images_per_pass, memory_errors
from contrastive_cli.engine.precision import Precision, autocast, choose_precision
from contrastive_cli.models.encoders import ENCODERS
from contrastive_cli.models.folding import fold_batch_norms
from contrastive_cli.services.configuration import (
    DatasetConfig,
    PretrainConfig,
    build_method,
    read_run_config,
)
from contrastive_cli.views.augment import prepare

Layer = Literal["h", "z"]


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
    method: Any
    embedder: Any
    device: torch.device
    precision: Precision
    checkpoint: str

    @property
    def channels(self) -> int:
        """Channels of the images it was trained on."""
        return len(self.manifest.mean)

    def dataset_at(self, data_dir: Path | None) -> DatasetConfig:
        """The run's dataset, in another folder if one is given."""
        own = self.config.dataset
        return own if data_dir is None else own.model_copy(update={"data_dir": data_dir})


def load_model(run: Run, *, device: str = "auto") -> Model:
    """Load the newest intact checkpoint of `run`.

    Raises:
        RunError: If there is none.
    """
    keep_freed_memory()
    manifest = run.manifest()
    config = read_run_config(run)
    checkpoint = load_checkpoint(run)
    chosen = choose_device(device)
    with memory_errors(chosen):
        method = _build(config, manifest)
    with does_not_fit(run, checkpoint.name):
        method.load_state_dict(checkpoint.state["method"])
    method = _ready(method, chosen)
    same = chosen.type == manifest.device.partition(":")[0]
    return Model(
        run=run,
        manifest=manifest,
        config=config,
        method=method,
        embedder=_folded(method, manifest.encoder),
        device=chosen,
        precision=manifest.precision if same else choose_precision("auto", chosen),
        checkpoint=checkpoint.sha256,
    )


def random_model(model: Model, *, seed: int) -> Model:
    """The same architecture with fresh weights: the baseline that a pretraining has to beat."""
    torch.manual_seed(seed)
    method = _ready(_build(model.config, model.manifest), model.device)
    return replace(model, method=method, embedder=_folded(method, model.manifest.encoder), checkpoint="random")


def embed_pixels(
    model: Model, pixels: NDArray[np.uint8], *, layer: Layer = "h", progress: CountProgress | None = None
) -> NDArray[np.float32]:
    """uint8 [N, C, H, W] -> float32 [N, D], in evaluation mode; `layer` z goes on through the projector.

    Raises:
        UsageError: If the method has no projector and z is asked for.
    """
    return embed_with_uncertainty(model, pixels, layer=layer, progress=progress)[0]


def embed_with_uncertainty(
    model: Model, pixels: NDArray[np.uint8], *, layer: Layer = "h", progress: CountProgress | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """What `embed_pixels` returns, and the uncertainty [N] of a method that has one.

    Raises:
        UsageError: If the method has no projector and z is asked for.
    """
    if layer == "z" and not hasattr(model.method, "projector"):
        raise UsageError(f"{model.manifest.method} has no projector, so there is no layer z", hint="use --layer h")
    parts: list[torch.Tensor] = []
    uncertainties: list[torch.Tensor] = []
    manifest, method = model.manifest, model.embedder
    size = images_per_pass(model.device, manifest.size)
    with memory_errors(model.device, batch_size=size), torch.no_grad(), autocast(model.device, model.precision):
        for start in range(0, len(pixels), size):
            chunk = torch.from_numpy(np.array(pixels[start : start + size])).to(model.device)
            images = prepare(chunk, size=manifest.size, mean=manifest.mean, std=manifest.std)
            if isinstance(method, Uncertain):
                embedded, uncertainty = method.embed_with_uncertainty(images)
                uncertainties.append(uncertainty.float().cpu())
            else:
                embedded = method.embed(images)
            if layer == "z":
                embedded = method.projector(embedded)
            parts.append(embedded.float().cpu())
            if progress is not None:
                progress(start + len(chunk), len(pixels))
    return torch.cat(parts).numpy(), torch.cat(uncertainties).numpy() if uncertainties else None


def embed_images(
    model: Model, images: ImageSet, *, layer: Layer = "h", progress: CountProgress | None = None
) -> Embeddings:
    """Embed a split, in its order."""
    vectors, uncertainty = embed_with_uncertainty(model, images.images, layer=layer, progress=progress)
    return Embeddings(
        vectors=vectors,
        uncertainty=uncertainty,
        labels=images.labels if images.has_labels else None,
        classes=images.classes,
        paths=images.paths,
        indices=np.arange(images.num_samples, dtype=np.int64),
        model=identity_of(model, layer),
        preprocess=preprocess_of(model),
        dataset={
            "name": images.name,
            "split": images.split,
            "fingerprint": images.fingerprint,
            **_scaling_of(model),
        },
    )


def _folded(method: Any, encoder: str) -> Any:
    """The method with the batch norms of its encoder folded, where they are known to follow their convolutions.

    All else is shared with the method.
    """
    if encoder not in ENCODERS or not hasattr(method, "encoder"):
        return method
    folded = copy.copy(method)
    folded._modules = dict(method._modules)  # else the copy would put its encoder into the method too
    folded.encoder = fold_batch_norms(method.encoder)
    return folded


def _build(config: PretrainConfig, manifest: Manifest) -> Any:
    facts = ImageFacts(
        count=manifest.dataset.count,
        channels=len(manifest.mean),
        size=manifest.size,
        num_classes=len(manifest.classes),
    )
    without_weights = config.encoder.model_copy(update={"weights": None})
    return build_method(config.model_copy(update={"encoder": without_weights}), facts)


def _ready(method: Any, device: torch.device) -> Any:
    return method.to(device=device, memory_format=torch.channels_last).eval().requires_grad_(False)


def identity_of(model: Model, layer: Layer) -> dict[str, Any]:
    """What an embeddings file says of the model."""
    return {
        "run": model.run.name,
        "checkpoint": model.checkpoint,
        "method": model.manifest.method,
        "encoder": model.manifest.encoder,
        "layer": layer,
    }


def preprocess_of(model: Model) -> dict[str, Any]:
    """What an embeddings file says of how images were prepared."""
    manifest = model.manifest
    return {"size": manifest.size, "mean": list(manifest.mean), "std": list(manifest.std), **_scaling_of(model)}


def _scaling_of(model: Model) -> dict[str, Any]:
    """How values became eight bits and bands channels, where that is not by the type and the colors."""
    scaling = {"range": model.manifest.range, "bands": model.manifest.bands}
    return {key: np.array(value).tolist() for key, value in scaling.items() if value is not None}


def predict_classes(
    method: Any,
    pixels: NDArray[np.uint8],
    *,
    size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    device: torch.device,
    precision: Precision,
    progress: CountProgress | None = None,
) -> NDArray[np.int64]:
    """uint8 [N, C, H, W] -> the likeliest class [N] of a `Classifying` method, which is left in evaluation mode."""
    method.eval()
    parts, at_once = [], images_per_pass(device, size)
    with memory_errors(device, batch_size=at_once), torch.no_grad(), autocast(device, precision):
        for start in range(0, len(pixels), at_once):
            chunk = torch.from_numpy(np.array(pixels[start : start + at_once])).to(device)
            images = prepare(chunk, size=size, mean=mean, std=std)
            parts.append(method.classify(images).argmax(1).cpu())
            if progress is not None:
                progress(start + len(chunk), len(pixels))
    return torch.cat(parts).numpy()
