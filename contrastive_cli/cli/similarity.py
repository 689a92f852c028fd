"""`clr similarity`: how alike images are, and where that stands among random pairs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contrastive_cli.cli.console import Output
from contrastive_cli.cli.options import (
    DataDir,
    Device,
    EncoderName,
    EncoderSets,
    Json,
    Overwrite,
    Quiet,
    RunName,
    Weights,
    chosen_run,
    refuse_beside,
)
from contrastive_cli.core.choices import Average, Layer
from contrastive_cli.core.errors import RunError, UsageError
from contrastive_cli.core.files import TABLES, is_table

if TYPE_CHECKING:
    from contrastive_cli.data.spec import DatasetSpec
    from contrastive_cli.services.evaluation.verification import PairResult
    from contrastive_cli.services.inference.model import Model
    from contrastive_cli.services.inference.similarity import Similarities


def similarity(
    images: Annotated[list[Path] | None, typer.Argument(help="Two image files or more.")] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="CSV file path_a,path_b,same: how well the cosine tells the two kinds apart.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder that the paths of --pairs are relative to; this one if not given.")
    ] = None,
    layer: Annotated[
        Layer | None,
        typer.Option(help="h of the encoder, or z of the projector; default: what the run's validation chose."),
    ] = None,
    average: Annotated[
        Average | None,
        typer.Option(
            help="Pictures that stand for an image: none (itself), mirror (its mirror image too), crops (crops around "
            "its center too); default: what the run's validation chose."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help=".csv or .jsonl: a line for every two images, or for every pair of --pairs.")
    ] = None,
    overwrite: Overwrite = False,
    run: RunName = None,
    encoder: EncoderName = None,
    weights: Weights = None,
    set_: EncoderSets = None,
    data_dir: DataDir = None,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare images by the cosine of their embeddings.

    clr similarity first.jpg second.jpg

    clr similarity --pairs pairs.csv --root photos

    clr similarity first.jpg second.jpg --encoder resnet50 --weights IMAGENET1K_V2
    """
    if pairs is not None and images:
        raise UsageError("images and --pairs exclude each other")
    if pairs is None:
        refuse_beside("images", {"--root": root})
    if pairs is None and len(images or []) < 2:
        raise UsageError(f"similarity compares two images or more (given: {len(images or [])})")
    if out is not None and not is_table(out):
        raise UsageError(f"--out {str(out)!r} has no known suffix; known are {', '.join(TABLES)}")
    if out is not None and out.exists() and not overwrite:
        hint = "pass --overwrite to replace it, or choose another --out"
        raise RunError(f"{out} exists, and does not say what it is of", hint=hint, path=out)
    output = Output(json=json, quiet=quiet)
    found = chosen_run(run, output, encoder=encoder, weights=weights, sets=set_)
    from contrastive_cli.services.inference.comparison import comparison_of
    from contrastive_cli.services.inference.model import load_model
    from contrastive_cli.services.inference.similarity import similarity as compare

    model = load_model(found, device=device)
    how = comparison_of(model, layer=layer, average=average)
    if pairs is not None:
        refuse_beside("--pairs", {"--data-dir": data_dir})
        from contrastive_cli.services.evaluation.verification import verify_pairs

        with output.counting("decoding images") as progress:
            verdict = verify_pairs(model, pairs, root=root or Path(), how=how, progress=progress)
        _write_pairs(out, verdict)
        output.result({**verdict.to_dict(), "run": found.name, **_file(out)}, _verdict(verdict, out))
        return
    assert images is not None, "without --pairs there are images"
    compared = compare(model, images, how=how, dataset=model.dataset_at(data_dir))
    if compared.missing:
        hint = "" if data_dir is not None or model.manifest.status == "imported" else "; give --data-dir"
        output.note(f"no percentiles, so nothing says how much the cosine means: {compared.missing}{hint}")
    _write_similarities(out, compared)
    _show(compared, model, output, out=out)


def _file(out: Path | None) -> dict[str, str]:
    return {} if out is None else {"file": str(out)}


def _write_pairs(out: Path | None, verdict: PairResult) -> None:
    from contrastive_cli.embeddings.result_tables import write_table

    columns = ("path_a", "path_b", "same", "similarity")
    if out is not None:
        rows = (dict(zip(columns, row, strict=True)) for row in verdict.rows)
        write_table(out, rows, columns=columns, paths=columns[:2])


def _write_similarities(out: Path | None, result: Similarities) -> None:
    """A line for every two images: their similarity, and its percentiles among pairs of other images."""
    from contrastive_cli.embeddings.result_tables import write_table

    columns = ["path_a", "path_b", "similarity", *(f"percentile_{kind}" for kind in result.percentiles)]
    if out is None:
        return
    rows = [
        {
            "path_a": result.paths[first],
            "path_b": result.paths[second],
            "similarity": float(result.cosines[first, second]),
        }
        | {f"percentile_{kind}": float(values[first, second]) for kind, values in result.percentiles.items()}
        for first in range(len(result.paths))
        for second in range(first + 1, len(result.paths))
    ]
    write_table(out, rows, columns=columns, paths=columns[:2])


def _show(result: Similarities, model: Model, output: Output, *, out: Path | None) -> None:
    """A sentence for two images, a matrix for more."""
    is_pair = len(result.paths) == 2
    value = {
        "images": list(result.paths),
        "similarity": float(result.cosines[0, 1]) if is_pair else result.cosines.tolist(),
        "percentiles": {
            kind: float(values[0, 1]) if is_pair else values.tolist() for kind, values in result.percentiles.items()
        },
        "reference": result.reference,
        "layer": result.how.layer,
        "average": result.how.average,
        "run": model.run.name,
        **_file(out),
    }
    written = "" if out is None else f"\n{out}"
    if is_pair:
        from contrastive_cli.data.datasets import known_dataset

        output.result(value, _sentence(result, spec=known_dataset(model.config.dataset.name)) + written)
        return
    output.table(
        title=f"cosine similarity, {result.how}",
        columns=["", *(str(number + 1) for number in range(len(result.paths)))],
        rows=[
            [f"{row + 1} {path}", *(f"{cosine:.3f}" for cosine in result.cosines[row])]
            for row, path in enumerate(result.paths)
        ],
    )
    if output.json or out is not None:
        output.result(value, str(out))


def _sentence(result: Similarities, *, spec: DatasetSpec | None) -> str:
    text = f"cosine similarity {result.cosines[0, 1]:.4f} ({result.how})"
    noun, plural = ("class", "classes") if spec is None else (spec.class_noun, spec.class_plural)
    wording = {"all": "random pairs", "same": f"pairs of the same {noun}", "different": f"pairs of different {plural}"}
    images = "validation images" if result.reference == "val" else "training images"
    for kind, values in result.percentiles.items():
        text += f"\n  higher than {values[0, 1]:.1f} % of {wording[kind]} of {images}"
    return text


def _verdict(result: PairResult, out: Path | None) -> str:
    found = result.verification
    return (
        f"{found.pairs:,} pairs of {result.images:,} images ({found.same:,} same), {result.how}\n"
        f"  ROC AUC   {found.auc:.4f}\n"
        f"  EER       {100 * found.eer:.2f} %\n"
        f"  accuracy  {100 * found.accuracy:.2f} +- {100 * found.accuracy_error:.2f} % "
        f"(mean and standard error of {found.folds} folds)\n"
        f"  threshold {found.threshold:.4f}\n"
        f"{result.figure}\n{result.curve}\n{result.scores}" + ("" if out is None else f"\n{out}")
    )
