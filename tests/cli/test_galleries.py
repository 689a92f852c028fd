"""Hits and similarities as pictures, and "same" or "different" at a false-accept rate, as a user types them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clr_process import Clr, run_all
from PIL import Image


def forked(commands: list[str], *, cwd: Path, clr: Clr) -> dict[str, tuple[int, str, str]]:
    """Exit code, stdout and stderr of each command."""
    return dict(zip(commands, run_all(clr, [command.split() for command in commands], cwd=cwd), strict=True))


@pytest.fixture(scope="module")
def folder(trained: Path, clr: Clr, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of its own, 60 digits as files and their embeddings, and a list of 200 pairs."""
    root = tmp_path_factory.mktemp("galleries")
    shutil.copytree(trained / "runs" / "small", root / "runs" / "small")
    done = forked(
        ["datasets digits --save-images digits --count 60", "embed digits --out digits.npz"], cwd=root, clr=clr
    )
    assert all(code == 0 for code, _, _ in done.values()), done
    files = sorted((root / "digits").rglob("*.png"))
    random = np.random.default_rng(0)
    lines = ["path_a,path_b,same"]
    for _ in range(400):
        first, second = (files[index] for index in random.choice(len(files), 2, replace=False))
        lines.append(f"{first},{second},{int(_class_of(first) == _class_of(second))}")
    (root / "pairs.csv").write_text("\n".join(lines) + "\n")
    return root


def _class_of(file: Path) -> str:
    """The digit, with which the names of the saved files begin."""
    return file.stem.partition("-")[0]


def comparison_name(folder: Path) -> str:
    """The part of file names that says how the run compares images, which the end of its training chose."""
    (file,) = (folder / "runs" / "small" / "eval").glob("pair-similarities-*.json")
    return file.stem.removeprefix("pair-similarities-")


def data_of(page: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(page.read_text().partition('id="data">')[2].partition("</script>")[0])
    return found


def test_knn__hits_as_page_and_figure(folder: Path, clr: Clr) -> None:
    query = next((folder / "digits").rglob("*.png")).relative_to(folder)
    ask = f"knn digits.npz --query {query} -k 5"
    commands = [f"{ask} --out hits.html --json", f"{ask} --out hits.png", f"{ask} --out hits.html --quiet",
                f"{ask} --out hits.png --quiet", "knn digits.npz --out hits.html"]  # fmt: skip
    page, figure, again, figure_again, alone = forked(commands, cwd=folder, clr=clr).values()
    assert (page[0], figure[0], again[0]) == (0, 0, 0), (page, figure, again)
    found = json.loads(page[1])["queries"][0]["neighbors"]
    (row,) = data_of(folder / "hits.html")["sections"][0]["rows"]
    assert [card[1] for card in row[2]] == [str(query), *(near["item"] for near in found)]
    assert row[2][1][2][0] == f"1. {found[0]['similarity']:.4f}"
    with Image.open(folder / "hits.png") as picture:
        assert picture.width > picture.height
    assert (figure_again[0], "--overwrite" in figure_again[2]) == (5, True)  # a figure does not say what it is of
    assert (alone[0], "--query" in alone[2]) == (2, True)


def test_similarity__heat_map_as_page_and_figure(folder: Path, clr: Clr) -> None:
    files = [str(file.relative_to(folder)) for file in sorted((folder / "digits").rglob("*.png"))[:12]]
    listed = " ".join(files)
    commands = [f"similarity {listed} --out heat.html --json", f"similarity {listed} --out heat.svg",
                f"similarity {files[0]} {files[1]} --out pair.png", f"similarity {listed} --out heat.gif"]  # fmt: skip
    page, figure, pair, unknown = forked(commands, cwd=folder, clr=clr).values()
    assert (page[0], figure[0], pair[0], unknown[0]) == (0, 0, 0, 2), (page, figure, pair)
    heat = data_of(folder / "heat.html")["heatMap"]
    assert np.allclose(heat["values"], json.loads(page[1])["similarity"], atol=1e-4)
    assert [card[1] for card in heat["cards"]] == files
    assert heat["threshold"] is None
    assert (folder / "heat.svg").read_text().count("<image") >= 2 * len(files)


def test_similarity__verdict_from_labels_is_kept_in_the_run(folder: Path, clr: Clr) -> None:
    files = [str(file.relative_to(folder)) for file in sorted((folder / "digits").rglob("*.png"))[:6]]
    two, many = " ".join([files[0]] * 2), " ".join(files)
    commands = [f"similarity {two} --far 0.05 --json", f"similarity {many} --json", f"similarity {two}",
                f"similarity {many} --out same.csv", f"similarity {two} --far 0.0001"]  # fmt: skip
    first, matrix, said, table, finer = forked(commands, cwd=folder, clr=clr).values()
    assert first[0] == matrix[0] == said[0] == table[0] == 0, (first, matrix, said, table)
    value = json.loads(first[1])
    assert (value["same"], value["false_accept_rate"]) == (True, 0.05)
    name = f"threshold-{comparison_name(folder)}.json"
    kept = json.loads((folder / "runs/small/eval" / name).read_bytes())
    assert kept["threshold"] == value["threshold"]
    assert name in (folder / "runs/small/manifest.json").read_text()
    found = json.loads(matrix[1])  # without --far the run's own is used
    assert found["same"] == (np.array(found["similarity"]) >= value["threshold"]).tolist()
    assert f"the same: at least {value['threshold']:.4f}" in said[1]
    assert (folder / "same.csv").read_text().splitlines()[0].endswith(",same")
    assert (finer[0], "--pairs" in finer[2]) == (3, True), finer


def test_similarity__verified_pairs_give_the_threshold(folder: Path, clr: Clr) -> None:
    files = [str(file.relative_to(folder)) for file in sorted((folder / "digits").rglob("*.png"))[:2]]
    verify = "similarity --pairs pairs.csv --root /"
    commands = [f"{verify} --far 0.02 --json", f"{verify} --far 0.02", f"similarity {files[0]} {files[1]} --json",
                f"{verify} --far 0.0001"]  # fmt: skip
    judged, said, two, finer = forked(commands, cwd=folder, clr=clr).values()
    assert judged[0] == two[0] == 0, (judged, two)
    point = json.loads(judged[1])["operating_point"]
    scores = np.loadtxt(folder / json.loads(judged[1])["scores"], delimiter=",", skiprows=1, usecols=(2, 3))
    different = scores[scores[:, 0] == 0, 1]
    assert point["false_accept_rate"] == pytest.approx((different >= point["threshold"]).mean())
    assert point["false_accept_rate"] <= 0.02
    assert "at a false-accept rate of" in said[1]
    value = json.loads(two[1])
    assert value["threshold"] == point["threshold"]
    assert value["threshold_from"].endswith("different pairs of pairs.csv")
    assert (finer[0], "too few" in finer[2]) == (3, True), finer


def test_similarity__a_threshold_of_other_weights_or_nonsense_is_not_used(folder: Path, clr: Clr) -> None:
    files = [str(file.relative_to(folder)) for file in sorted((folder / "digits").rglob("*.png"))[:2]]
    name = comparison_name(folder)
    kept = json.loads((folder / "runs" / "small" / "eval" / f"pair-similarities-{name}.json").read_bytes())
    good = {"checkpoint": kept["checkpoint"], "threshold": 0.5, "false_accept_rate": 0.1, "source": "a test"}
    contents = (
        json.dumps(good), json.dumps({**good, "checkpoint": "another"}), json.dumps({**good, "threshold": "high"}),
        json.dumps({**good, "threshold": None}), json.dumps([good]), "[" * 50_000, "",
    )  # fmt: skip
    commands = []
    for number, content in enumerate(contents):
        run = folder / "runs" / f"damaged-{number}"
        shutil.copytree(folder / "runs" / "small", run)
        (run / "eval" / f"threshold-{name}.json").write_text(content)
        commands.append(f"similarity {files[0]} {files[1]} --json --run runs/damaged-{number}")
    for command, (code, out, err) in forked(commands, cwd=folder, clr=clr).items():
        assert code == 0, (command, err)
        assert ("same" in json.loads(out)) == command.endswith("damaged-0"), command  # the first is whole
