"""`clr similarity`: how alike images are, and where that stands among random pairs."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contrastive_cli.cli.console import MOST_NARROW_COLUMNS, Lines, Output
from contrastive_cli.cli.options import (
    DataDir,
    Device,
    EncoderName,
    EncoderSets,
    Json,
    Overwrite,
    Quiet,
    RunName,
    SpaceName,
    Weights,
    chosen_run,
    refuse_beside,
)
from contrastive_cli.core.choices import Average, Layer
from contrastive_cli.core.errors import RunError, UsageError
from contrastive_cli.core.files import SEEN, TABLES, is_seen, is_table

if TYPE_CHECKING:
    from contrastive_cli.data.spec import DatasetSpec
    from contrastive_cli.services.evaluation.verification import PairResult
    from contrastive_cli.services.inference.model import Model
    from contrastive_cli.services.inference.similarity import Similarities
    from contrastive_cli.services.inference.thresholds import Threshold


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
    space: SpaceName = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help=".csv or .jsonl: a line for every two images, or for every pair of --pairs; .html or .png: a heat map "
            "of the images."
        ),
    ] = None,
    far: Annotated[
        float | None,
        typer.Option(
            min=1e-6,
            max=0.5,
            help="False-accept rate: say same or different so that this part of different pairs is called the same. "
            "The threshold is taken from --pairs, or from the labels of the run's images, and kept in the run.",
        ),
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

    clr similarity first.jpg second.jpg --encoder resnet50 --weights IMAGENET1K_V2

    clr similarity photos/*.jpg --out heat.html

    clr similarity --pairs pairs.csv --root photos --far 0.01
    """
    if pairs is not None and images:
        raise UsageError("images and --pairs exclude each other")
    if pairs is None:
        refuse_beside("images", {"--root": root})
    if pairs is None and len(images or []) < 2:
        raise UsageError(f"similarity compares two images or more (given: {len(images or [])})")
    known = TABLES if pairs is not None else (*TABLES, *SEEN)
    if out is not None and out.suffix.lower() not in known:
        raise UsageError(f"--out {str(out)!r} has no known suffix; known are {', '.join(known)}")
    _refuse_existing(out, overwrite=overwrite)
    output = Output(json=json, quiet=quiet)
    found = chosen_run(run, output, encoder=encoder, weights=weights, sets=set_)
    from contrastive_cli.services.inference.comparison import comparison_of
    from contrastive_cli.services.inference.model import load_model
    from contrastive_cli.services.inference.similarity import similarity as compare

    model = load_model(found, device=device)
    how = comparison_of(model, layer=layer, average=average, space=space)
    if pairs is not None:
        refuse_beside("--pairs", {"--data-dir": data_dir})
        from contrastive_cli.services.evaluation.verification import verify_pairs

        with output.counting("decoding images") as progress:
            verdict = verify_pairs(model, pairs, root=root or Path(), how=how, false_accept_rate=far, progress=progress)
        _write_pairs(out, verdict)
        output.result({**verdict.to_dict(), "run": found.name, **_file(out)}, _verdict(verdict, out))
        return
    assert images is not None, "without --pairs there are images"
    compared = compare(model, images, how=how, dataset=model.dataset_at(data_dir))
    if compared.missing:
        hint = "" if data_dir is not None or model.manifest.status == "imported" else "; give --data-dir"
        output.note(f"no percentiles, so nothing says how much the cosine means: {compared.missing}{hint}")
    from contrastive_cli.services.inference.thresholds import find_threshold

    limit = find_threshold(model, how, false_accept_rate=far, dataset=model.dataset_at(data_dir))
    if out is not None and is_seen(out):
        from contrastive_cli.services.figures.hits import write_similarity_map

        write_similarity_map(out, compared.paths, compared.cosines, how=str(how), run=found.name, threshold=limit)
    elif out is not None:
        _write_similarities(out, compared, limit)
    _show(compared, model, output, out=out, limit=limit)


def _refuse_existing(out: Path | None, *, overwrite: bool) -> None:
    if out is None or overwrite or not out.exists():
        return
    if is_table(out):
        hint = "pass --overwrite to replace it, or choose another --out"
        raise RunError(f"{out} exists, and does not say what it is of", hint=hint, path=out)
    from contrastive_cli.services.outputs import refuse_page

    refuse_page(out, overwrite=overwrite)


def _file(out: Path | None) -> dict[str, str]:
    return {} if out is None else {"file": str(out)}


def _write_pairs(out: Path | None, verdict: PairResult) -> None:
    from contrastive_cli.embeddings.result_tables import write_table

    columns = ("path_a", "path_b", "same", "similarity")
    if out is not None:
        rows = (dict(zip(columns, row, strict=True)) for row in verdict.rows)
        write_table(out, rows, columns=columns, paths=columns[:2])


def _write_similarities(out: Path, result: Similarities, limit: Threshold | None) -> None:
    """A line for every two images: their similarity, its percentiles among pairs of other images, and the verdict."""
    from contrastive_cli.embeddings.result_tables import write_table

    columns = ["path_a", "path_b", "similarity", *(f"percentile_{kind}" for kind in result.percentiles)]
    columns += [] if limit is None else ["same"]
    rows = [
        {
            "path_a": result.paths[first],
            "path_b": result.paths[second],
            "similarity": float(result.cosines[first, second]),
        }
        | {f"percentile_{kind}": float(values[first, second]) for kind, values in result.percentiles.items()}
        | ({} if limit is None else {"same": int(result.cosines[first, second] >= limit.cosine)})
        for first in range(len(result.paths))
        for second in range(first + 1, len(result.paths))
    ]
    write_table(out, rows, columns=columns, paths=columns[:2])


def _show(result: Similarities, model: Model, output: Output, *, out: Path | None, limit: Threshold | None) -> None:
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
        "space": result.how.space,
        "run": model.run.name,
        **_judged(result, limit),
        **_file(out),
    }
    written = "" if out is None else f"\n{out}"
    if is_pair:
        from contrastive_cli.data.datasets import known_dataset

        sentence = _sentence(result, spec=known_dataset(model.config.dataset.name))
        if limit is not None:
            sentence += (
                f"\n{'the same: at least' if result.cosines[0, 1] >= limit.cosine else 'different: below'} {limit}"
            )
        output.result(value, sentence + written)
        return
    output.table(
        title=f"cosine similarity, {result.how}",
        columns=["", *(str(number + 1) for number in range(len(result.paths)))],
        rows=[
            [f"{row + 1} {path}", *(f"{cosine:.3f}" for cosine in result.cosines[row])]
            for row, path in enumerate(result.paths)
        ],
        piped=_pairs_of_many(result),
    )
    if limit is not None:
        output.table(
            title=f"the same: at least {limit}",
            columns=["image", "and", "similarity"],
            rows=[[result.paths[a], result.paths[b], f"{result.cosines[a, b]:.4f}"] for a, b in _same(result, limit)],
        )
    if output.json or out is not None:
        output.result(value, str(out))


def _pairs_of_many(result: Similarities) -> list[Lines]:
    """A line a pair, where a row of the table would be a long line; none where it would not."""
    paths = result.paths
    if len(paths) < MOST_NARROW_COLUMNS:
        return []
    pairs = itertools.combinations(range(len(paths)), 2)
    rows = [[paths[a], paths[b], f"{result.cosines[a, b]:.3f}"] for a, b in pairs]
    return [Lines(title=f"cosine similarity, {result.how}", columns=["image", "and", "similarity"], rows=rows)]


def _same(result: Similarities, limit: Threshold) -> list[tuple[int, int]]:
    """The pairs that are called the same, the most similar first."""
    count = len(result.paths)
    pairs = [(a, b) for a in range(count) for b in range(a + 1, count) if result.cosines[a, b] >= limit.cosine]
    return sorted(pairs, key=lambda pair: -result.cosines[pair])


def _judged(result: Similarities, limit: Threshold | None) -> dict[str, object]:
    """The threshold and the verdict as plain values."""
    if limit is None:
        return {}
    is_same = result.cosines >= limit.cosine
    return {
        "threshold": limit.cosine,
        "false_accept_rate": limit.false_accept_rate,
        "threshold_from": limit.source,
        "same": bool(is_same[0, 1]) if len(result.paths) == 2 else is_same.tolist(),
    }


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
        f"  threshold {found.threshold:.4f}\n{_point(result)}"
        f"{result.figure}\n{result.curve}\n{result.scores}" + ("" if out is None else f"\n{out}")
    )


def _point(result: PairResult) -> str:
    """The threshold of the false-accept rate that was asked for, which the run keeps."""
    point = result.point
    if point is None:
        return ""
    return (
        f"  at a false-accept rate of {100 * point.false_accept_rate:.3g} %: threshold {point.threshold:.4f}, "
        f"{100 * point.true_accept_rate:.2f} % of the same pairs are accepted; kept in the run\n"
    )
