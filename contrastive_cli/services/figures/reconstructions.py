"""What a decoder draws: images from their embeddings, from between two of them, from the prior.

`clr plot reconstructions` reaches this module.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.runs import Run
from contrastive_cli.core.types import CountProgress, Generative, Reconstructing
from contrastive_cli.data.loader import draw_positions
from contrastive_cli.engine.precision import autocast
from contrastive_cli.methods import list_methods, load_method
from contrastive_cli.services.artifacts import register_artifact
from contrastive_cli.services.display import for_display
from contrastive_cli.services.inference.model import Model, embed_pixels, load_model
from contrastive_cli.services.inference.splits import open_split
from contrastive_cli.viz.grids import reconstructions_grid


def plot_reconstructions(
    run: Run,
    *,
    out: Path | None,
    split: str,
    count: int,
    data_dir: Path | None,
    device: str,
    seed: int,
    progress: CountProgress | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Draw images of a split above what the run's method makes of their embeddings, and what lies between two.

    Methods with a prior add a row of samples from it.

    Returns:
        The file; and the mean squared error over the drawn images, in normalized units, with their number.

    Raises:
        UsageError: If the method has no decoder.
    """
    model = load_model(run, device=device)
    method = model.method
    if not isinstance(method, Reconstructing):
        raise UsageError(
            f"{model.manifest.method} has no decoder, so there is nothing to draw from its embeddings",
            hint=f"methods with one: {', '.join(_methods_with_decoder())}",
        )
    images = open_split(model, split, dataset=model.dataset_at(data_dir), progress=progress)
    chosen = draw_positions(images.num_samples, limit=count, seed=seed)
    pixels = np.asarray(images.images[chosen])
    embeddings = torch.from_numpy(embed_pixels(model, pixels, progress=progress)).to(model.device)  # [B, D]
    rows = {"output": embeddings}
    if len(embeddings) > 1:
        rows["interpolation"] = _between(embeddings[0], embeddings[1], count=len(embeddings))
    if isinstance(method, Generative):
        rows["samples"] = method.sample(len(embeddings), generator=torch.Generator().manual_seed(seed))
    drawn = {name: _draw(model, method, row) for name, row in rows.items()}
    errors = _errors(model, pixels, drawn["output"])
    target = out or run.path / "plots" / "reconstructions.png"
    dataset = model.config.dataset
    reconstructions_grid(
        for_display(pixels, dataset),
        for_display(_denormalize(model, drawn.pop("output")), dataset),
        errors.tolist(),
        {name: for_display(_denormalize(model, row), dataset) for name, row in drawn.items()},
        path=target,
        title=f"{images.name} {split}, drawn from {embeddings.shape[1]} numbers an image",
        caption=f"{run.name}, squared error in normalized units, mean {errors.mean():.3f}, seed {seed}",
    )
    register_artifact(run, target, kind="plot")
    return target, {"error": float(errors.mean()), "images": len(pixels)}


def _methods_with_decoder() -> list[str]:
    return [name for name in list_methods() if hasattr(load_method(name).build, "decode")]


def _between(first: torch.Tensor, last: torch.Tensor, *, count: int) -> torch.Tensor:
    """[count, D] on the line from one embedding to the other, both ends among them."""
    weights = torch.linspace(0, 1, count, device=first.device)[:, None]
    return first.lerp(last, weights)


def _draw(model: Model, method: Reconstructing, embeddings: torch.Tensor) -> torch.Tensor:
    with torch.no_grad(), autocast(model.device, model.precision):
        images = method.decode(embeddings)
    return images.float().cpu()


def _errors(model: Model, pixels: NDArray[np.uint8], drawn: torch.Tensor) -> NDArray[np.float32]:
    wanted = model.preprocessing(torch.from_numpy(pixels))
    return (drawn - wanted).square().flatten(1).mean(dim=1).numpy()


def _denormalize(model: Model, images: torch.Tensor) -> NDArray[np.float32]:
    return model.preprocessing.undo(images).numpy()
