"""`README.md` of an export: what the encoder was trained on, how, for how long, what was measured, how it is loaded."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from contrastive_cli import __version__
from contrastive_cli.services.exporting.agreement import Agreement
from contrastive_cli.services.exporting.source import Source
from contrastive_cli.services.reporting import summarize

FILE = "README.md"
MOST_ROWS = 12


def model_card(source: Source, *, form: str, measured: Agreement, usage: str) -> str:
    """The text; whatever comes from a run stands in it as code, so that it is no markup."""
    manifest, config = source.model.manifest, source.model.config
    name = code(source.model.run.name)
    lines = ["---", "license: # yours to fill in", "tags: [image-feature-extraction, clr]", "---", "", f"# {name}", ""]
    lines += [f"{code(manifest.encoder)}, {source.embedding_dim} numbers a picture, {source.size} x {source.size} px."]
    lines += ["", "## How it is loaded", "", "```python", usage, "```", ""]
    lines += [
        f"Read by {measured.library}, this file gives what the run gives: on {measured.pictures} pictures the largest "
        f"difference is {measured.largest_difference:.2g} ({measured.relative_difference:.2g} of the largest number), "
        f"the smallest cosine {measured.cosine:.7f}.",
        "",
        "## What it was trained on",
        "",
        _origin(source),
        "",
        "## How",
        "",
        *_rows(source, form=form),
        "",
    ]
    accuracies = list(_accuracies(source))
    if accuracies:
        lines += ["## What was measured", "", "| features | head | labels | accuracy | 95 % interval | on |"]
        lines += ["|---|---|---|---|---|---|", *accuracies[:MOST_ROWS], ""]
    else:
        lines += ["## What was measured", "", "Nothing yet: `clr linear-eval` measures it.", ""]
    lines += [f"Written by clr {__version__}; `config.json` and the run {name} (seed {config.seed}) say the rest."]
    return "\n".join(lines) + "\n"


def _origin(source: Source) -> str:
    """The pictures of the training, or where weights came from that were not trained here."""
    manifest = source.model.manifest
    if manifest.status == "imported" and manifest.weights is not None:
        name, digest = Path(manifest.weights.source).name, manifest.weights.sha256[:16]
        return (
            f"Not trained by clr: the weights {code(name)} (sha256 {code(digest)}) came from elsewhere, and so did "
            "their licence."
        )
    text = (
        f"{manifest.dataset.count:,} pictures: {code(manifest.dataset.name)}, split {code(manifest.dataset.split)} "
        f"(fingerprint {code(manifest.dataset.fingerprint[:16])})."
    )
    if manifest.weights is not None:
        text += f" The training began with the weights {code(Path(manifest.weights.source).name)}."
    return text


def code(text: str) -> str:
    """A text of a stranger's as code of Markdown, on one line."""
    clean = re.sub(r"[\x00-\x1f\x7f`|]", " ", str(text))[:200].strip()
    return f"`{clean}`" if clean else "(no name)"


def _rows(source: Source, *, form: str) -> list[str]:
    manifest, config = source.model.manifest, source.model.config
    said = source.preprocessing
    rows = {"method": code(manifest.method)}
    if manifest.status != "imported":
        epochs = summarize(source.model.run)["epochs"]
        passes = "" if epochs is None else f", {epochs:.4g} epochs"
        where = f"{manifest.seconds / 60:.1f} minutes on {code(manifest.device)} in {manifest.precision}"
        rows |= {
            "length": f"{manifest.step:,} steps of {config.batch_size} pictures{passes}, {where}",
            "optimizer": f"{code(config.optim.name)}, peak rate {config.peak_learning_rate:.3g}",
            "labels": "used" if manifest.labels else "not used",
        }
    rows |= {
        "pictures become": f"{said['rule']} side {said['resize']} px ({said['interpolation']}), center "
        f"{said['size']} px, mean {_numbers(said['mean'])}, std {_numbers(said['std'])}",
        "format": f"{form}{', pictures prepared in the graph' if source.baked else ''}",
        "weights": f"sha256 {code(source.model.checkpoint[:16])}",
    }
    return ["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows.items())]


def _numbers(values: list[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _accuracies(source: Source) -> Iterator[str]:
    """Rows of the evaluations of this very checkpoint."""
    for file in sorted((source.model.run.path / "eval").glob("*.json")):
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            found: dict[str, Any] = json.loads(file.read_bytes())
            if found["checkpoint"] != source.model.checkpoint:
                continue
            on = f"{int(found['test_images']):,} of {code(found['dataset'])} {code(found['test_split'])}"
            rows = found.get("rows", [{"features": "finetuned", "head": "own", **found}])
            for row in rows:
                low, high = (float(edge) for edge in row["ci95"])
                yield (
                    f"| {code(row['features'])} | {code(row['head'])} | {float(row['label_fraction']):.3g} | "
                    f"{100 * float(row['accuracy']):.2f} % | {100 * low:.2f} to {100 * high:.2f} % | {on} |"
                )
