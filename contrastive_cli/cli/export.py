"""`clr export`: the encoder of a run as a file of another library."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from contrastive_cli.cli.console import Output
from contrastive_cli.cli.options import EncoderName, EncoderSets, Json, Quiet, RunName, Weights, chosen_run
from contrastive_cli.cli.waiting import waiting


def export(
    images: Annotated[
        list[Path] | None,
        typer.Argument(help="Pictures or folders to compare on; those of the run's dataset if not given."),
    ] = None,
    form: Annotated[str, typer.Option("--format", help="safetensors, timm, torchvision, onnx or pt2.")] = "safetensors",
    out: Annotated[Path, typer.Option(help="Folder to write; it must be absent or empty.")] = Path("export"),
    bake_preprocessing: Annotated[
        bool, typer.Option("--bake-preprocessing", help="Of onnx and pt2: take raw pixels [N, H, W, C] of any size.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")] = False,
    run: RunName = None,
    encoder: EncoderName = None,
    weights: Weights = None,
    set_: EncoderSets = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a run's encoder for another library, compare what that reads with the run, and write a model card.

    Where the two differ by more than 1e-4 of the largest value, nothing is left behind and the exit code is 6.

    clr export --format timm --out resnet

    clr export --format onnx --bake-preprocessing --out graph
    """
    output = Output(json=json, quiet=quiet)
    found = chosen_run(run, output, encoder=encoder, weights=weights, sets=set_)
    with waiting(output) as progress:
        progress.say("loading the run")
        from contrastive_cli.services.exporting.export import export as write
        from contrastive_cli.services.inference.model import load_model

        exported = write(
            load_model(found, device="cpu"),
            form=form,
            out=out,
            baked=bake_preprocessing,
            overwrite=overwrite,
            paths=images or (),
            say=progress.say,
        )
    measured = exported.agreement
    output.result(
        {"folder": str(out), "format": form, "files": list(exported.files), "run": found.name, **asdict(measured)},
        f"{out}: {', '.join(exported.files)}\n"
        f"  read by {measured.library}, {measured.pictures} pictures: largest difference "
        f"{measured.largest_difference:.3g} ({measured.relative_difference:.2g} of the largest value), "
        f"smallest cosine {measured.cosine:.7f}",
    )
