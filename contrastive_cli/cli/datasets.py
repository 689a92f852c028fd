"""`clr datasets`: which datasets there are, and a few of their images as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from contrastive_cli.cli.console import Output
from contrastive_cli.cli.options import DataDir, Download, Json, Quiet
from contrastive_cli.core.errors import UsageError


def datasets(
    name: Annotated[str | None, typer.Argument(help="Dataset whose first images are saved with --save-images.")] = None,
    save_images: Annotated[
        Path | None, typer.Option(help="Folder for PNG files of test images, named by class.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=10_000, help="How many images to save.")] = 20,
    data_dir: DataDir = None,
    download: Download = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List the datasets, or save some test images of one as PNG files.

    clr datasets digits --save-images digits-png
    """
    output = Output(json=json, quiet=quiet)
    if (name is None) != (save_images is None):
        raise UsageError("a dataset's name and --save-images go together: clr datasets digits --save-images digits-png")
    if name is not None and save_images is not None:
        from contrastive_cli.services.samples import save_samples

        files = save_samples(name, save_images, count=count, data_dir=data_dir, download=download)
        output.result({"files": [str(file) for file in files]}, "\n".join(str(file) for file in files))
        return
    from contrastive_cli.data.datasets import DATASETS

    output.table(
        title="datasets",
        columns=["name", "size", "channels", "what"],
        rows=[[key, f"{spec.size} px", str(spec.channels), spec.help] for key, spec in DATASETS.items()],
    )
    if json:
        facts = [
            {"name": key, "size": spec.size, "channels": spec.channels, "help": spec.help}
            for key, spec in DATASETS.items()
        ]
        output.result({"datasets": facts}, "")
