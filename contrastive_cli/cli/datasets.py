"""`clr datasets`: which datasets there are, and a few of their images as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from contrastive_cli.cli.check import check
from contrastive_cli.cli.command_groups import ListsByDefault
from contrastive_cli.cli.console import Output
from contrastive_cli.cli.help_text import GroupedCommand
from contrastive_cli.cli.options import DataDir, Download, Json, Labels, Layout, Quiet, Seed, refuse_beside
from contrastive_cli.core.errors import UsageError

datasets = typer.Typer(
    cls=ListsByDefault,
    help="List datasets, save images or pairs of one, check pictures; `clr datasets` alone lists them.",
    rich_markup_mode=None,
)
datasets.command("check", cls=GroupedCommand)(check)


@datasets.command("list", cls=GroupedCommand)
def list_command(
    name: Annotated[str | None, typer.Argument(help="Dataset for --save-images or --save-pairs.")] = None,
    save_images: Annotated[
        Path | None, typer.Option(help="Folder for PNG files of some images, named by class.")
    ] = None,
    save_pairs: Annotated[
        Path | None, typer.Option(help="CSV file of same and different pairs for `clr similarity --pairs`.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split that the images or pairs are of; test if not given.")] = None,
    count: Annotated[
        int | None,
        typer.Option(
            min=1, max=1_000_000, help="How many; 20 images, or 3,000 pairs where there are so many, if not given."
        ),
    ] = None,
    seed: Seed = 0,
    data_dir: DataDir = None,
    labels: Labels = None,
    layout: Layout = None,
    download: Download = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List the datasets, save some images of one as PNG files, or draw pairs of a split.

    clr datasets digits --save-images digits-png

    clr datasets lfw --data-dir data --save-pairs pairs.csv
    """
    output = Output(json=json, quiet=quiet)
    if name is None:
        others = {"--split": split, "--data-dir": data_dir, "--count": count, "--labels": labels, "--layout": layout}
        refuse_beside("no dataset's name", others)
    if (name is None) != (save_images is None and save_pairs is None):
        raise UsageError("a dataset's name and --save-images go together: clr datasets digits --save-images digits-png")
    if save_images is not None and save_pairs is not None:
        raise UsageError("--save-images and --save-pairs exclude each other")
    if name is not None and save_pairs is not None:
        from contrastive_cli.data.own_datasets import name_dataset
        from contrastive_cli.data.sources import known_layout
        from contrastive_cli.services.dataset_config import DatasetConfig
        from contrastive_cli.services.evaluation.verification import save_pairs as draw_and_save

        dataset = DatasetConfig(
            name=name_dataset(name), data_dir=data_dir, labels=labels, layout=known_layout(layout), download=download
        )
        chosen = split or "test"
        pairs = draw_and_save(save_pairs, dataset=dataset, split=chosen, count=count, seed=seed)
        command = f"clr similarity --pairs {save_pairs} --root {data_dir or 'data'}"
        output.note(f"{pairs:,} pairs of {chosen}; evaluate with: {command}")
        output.result({"file": str(save_pairs), "pairs": pairs, "split": chosen}, str(save_pairs))
        return
    if name is not None and save_images is not None:
        from contrastive_cli.data.own_datasets import name_dataset
        from contrastive_cli.data.sources import known_layout
        from contrastive_cli.services.dataset_config import DatasetConfig
        from contrastive_cli.services.samples import save_samples

        dataset = DatasetConfig(
            name=name_dataset(name), data_dir=data_dir, labels=labels, layout=known_layout(layout), download=download
        )
        files = save_samples(dataset, save_images, split=split or "test", count=count or 20)
        output.result({"files": [str(file) for file in files]}, "\n".join(str(file) for file in files))
        return
    from contrastive_cli.data.datasets import DATASETS
    from contrastive_cli.data.own_datasets import GROUP, offered

    outside = [name for name in offered() if name not in DATASETS]
    output.table(
        title="datasets",
        columns=["name", "size", "channels", "what"],
        rows=[
            *([key, f"{spec.size} px", str(spec.channels), spec.help] for key, spec in DATASETS.items()),
            *([name, "-", "-", f"of an installed package ({GROUP})"] for name in outside),
        ],
    )
    if json:
        facts = [
            {"name": key, "size": spec.size, "channels": spec.channels, "help": spec.help}
            for key, spec in DATASETS.items()
        ]
        output.result({"datasets": facts, "entry_points": outside}, "")
