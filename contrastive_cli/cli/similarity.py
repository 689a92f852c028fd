"""`clr similarity`: how alike images are, and where that stands among random pairs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contrastive_cli.cli.console import Output
from contrastive_cli.cli.options import Device, Json, Quiet, RunName
from contrastive_cli.core.errors import UsageError

if TYPE_CHECKING:
    from contrastive_cli.services.retrieval import Similarities


def similarity(
    images: Annotated[list[Path], typer.Argument(help="Two image files or more.")],
    run: RunName = None,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare images by the cosine of their embeddings.

    clr similarity first.jpg second.jpg
    """
    if len(images) < 2:
        raise UsageError(f"similarity compares two images or more (given: {len(images)})")
    from contrastive_cli.core.runs import find_run

    found = find_run(run)
    from contrastive_cli.services.embedding import load_model
    from contrastive_cli.services.retrieval import similarity as compare

    output = Output(json=json, quiet=quiet)
    result = compare(load_model(found, device=device), images)
    value = {
        "images": list(result.paths),
        "similarity": result.cosines.tolist() if len(images) > 2 else float(result.cosines[0, 1]),
        "percentiles": {
            kind: values.tolist() if len(images) > 2 else float(values[0, 1])
            for kind, values in result.percentiles.items()
        },
        "run": found.name,
    }
    if len(images) == 2:
        output.result(value, _sentence(result))
    else:
        output.table(
            title="cosine similarity",
            columns=["", *(str(number + 1) for number in range(len(images)))],
            rows=[
                [f"{row + 1} {path}", *(f"{cosine:.3f}" for cosine in result.cosines[row])]
                for row, path in enumerate(result.paths)
            ],
        )
        if json:
            output.result(value, "")


def _sentence(result: Similarities) -> str:
    text = f"cosine similarity {result.cosines[0, 1]:.4f}"
    wording = {"all": "random pairs", "same": "pairs of the same class", "different": "pairs of different classes"}
    for kind, values in result.percentiles.items():
        text += f"\n  higher than {values[0, 1]:.1f} % of {wording[kind]} of training images"
    return text
