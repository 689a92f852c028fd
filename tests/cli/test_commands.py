"""The commands that use a trained run, each as typed in the README."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from clr_process import Clr, clr_command, clr_environment
from PIL import Image

from contrastive_cli.embeddings.files import read_neighbors

HEAVY = ("torch", "torchvision", "sklearn", "umap", "matplotlib", "numpy", "scipy", "PIL", "yaml")


def _listing_at_the_end(arguments: list[str], names: tuple[str, ...]) -> str:
    """Code that runs `clr` with `arguments`; its last line of output lists those of `names` that were imported."""
    return (
        "import atexit, runpy, sys\n"
        f"atexit.register(lambda: print([name for name in {names!r} if name in sys.modules]))\n"
        f"sys.argv = ['clr', *{arguments!r}]\n"
        "runpy.run_module('contrastive_cli', run_name='__main__')\n"
    )


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["pretrain", "--help"], ["pretrain", "--metod", "x"]])
def test_start_up__imports_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    code = _listing_at_the_end(arguments, HEAVY)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == (2 if "--metod" in arguments else 0)
    assert done.stdout.splitlines()[-1] == "[]"


def test_network__is_asked_for_only_by_download(clr: Clr, tmp_path: Path) -> None:
    """All other tests of commands run without: `tests/no_network` would end them with 97."""
    absent = clr("pretrain", "--dataset", "cifar10", "--data-dir", "nothing", cwd=tmp_path)
    assert (absent.code, "--download" in absent.err) == (3, True)
    fetched = clr("pretrain", "--dataset", "cifar10", "--data-dir", "nothing", "--download", cwd=tmp_path)
    assert (fetched.code, "the network was asked for" in fetched.err) == (97, True)


def test_commands__are_quiet_when_the_reader_goes_away(clr_cache: Path, tmp_path: Path) -> None:
    environment = clr_environment(clr_cache)
    for command in (["methods"], ["methods", "--json"], ["--help"]):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(clr_command(command), cwd=tmp_path, env=environment, **pipes) as process:  # type: ignore[call-overload]
            process.stdout.close()
            assert process.stderr.read() == b""


def test_linear_eval__table_has_the_documented_shape(clr: Clr, trained: Path) -> None:
    result = clr("linear-eval", "--label-fraction", "0.02,0.4", "--seeds", "1", "--json", cwd=trained)
    assert result.code == 0, result.err
    rows = result.json["rows"]
    assert {(row["features"], row["head"], row["label_fraction"]) for row in rows} == {
        (features, head, fraction)
        for features in ("pretrained", "pretrained whitened", "random", "random whitened", "pixels")
        for head in ("linear", "knn")
        for fraction in (0.02, 0.4)
        if (features, head) != ("random whitened", "linear")
    }
    for row in rows:
        low, high = row["ci95"]
        assert 0 <= low <= row["accuracy"] <= high <= 1
    best = max(row["accuracy"] for row in rows if row["features"] == "pixels")
    assert best > 0.9
    assert json.loads((trained / "runs/small/eval/linear-digits.json").read_bytes())["rows"] == rows


def test_embed_knn_similarity_plot__work_as_typed(clr: Clr, trained: Path) -> None:
    embedded = clr("embed", cwd=trained)
    assert embedded.code == 0, embedded.err
    with (trained / "embeddings.pkl").open("rb") as file:
        content = pickle.load(file)
    assert content["embeddings"].shape == (359, 32)
    assert content["embeddings"].dtype == np.float32
    neighbors = clr("knn", "embeddings.pkl", "--metric", "cosine", "-k", "3", "--json", cwd=trained)
    assert neighbors.code == 0, neighbors.err
    assert neighbors.json["same_class"] > 0.5
    saved = clr("datasets", "digits", "--save-images", "png", "--count", "11", "--json", cwd=trained)
    files = saved.json["files"]
    assert len(files) == 11
    same = clr("similarity", files[0], files[0], "--json", cwd=trained)
    assert same.json["similarity"] == pytest.approx(1, abs=1e-5)
    assert same.json["percentiles"]["all"] > 99
    matrix = clr("similarity", *files[:3], "--json", cwd=trained)
    cosines = np.array(matrix.json["similarity"])
    assert cosines.shape == (3, 3)
    np.testing.assert_allclose(cosines, cosines.T, atol=1e-6)
    looked_up = clr("knn", "embeddings.pkl", "--query", files[0], "-k", "1", "--json", cwd=trained)
    assert looked_up.code == 0, looked_up.err
    assert looked_up.json["queries"][0]["neighbors"][0]["distance"] < 1e-3  # the image itself is in the split
    plot = clr("plot", "embeddings", "--projection", "pca", cwd=trained)
    assert plot.code == 0, plot.err
    for kind in ("views", "curves"):
        assert clr("plot", kind, cwd=trained).code == 0
    for name in ("embeddings-pca", "views", "curves"):
        with Image.open(trained / "runs/small/plots" / f"{name}.png") as picture:
            assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 50
    kinds = json.loads((trained / "runs/small/manifest.json").read_bytes())["artifacts"]
    assert {artifact["kind"] for artifact in kinds.values()} >= {"checkpoint", "plot"}


def test_embed__is_the_same_from_files_and_from_the_split(clr: Clr, trained: Path, tmp_path: Path) -> None:
    files = clr("datasets", "digits", "--save-images", tmp_path / "png", "--count", "4", "--json", cwd=trained).json[
        "files"
    ]
    clr("embed", "--out", tmp_path / "split.npz", cwd=trained)
    clr("embed", *files, "--out", tmp_path / "files.npz", cwd=trained)
    with np.load(tmp_path / "split.npz") as split, np.load(tmp_path / "files.npz") as chosen:
        rows = [int(Path(file).stem.rpartition("-")[2]) for file in files]
        np.testing.assert_allclose(split["embeddings"][rows], chosen["embeddings"], atol=2e-2)


def test_knn__a_small_file_needs_no_torch(trained: Path, clr_cache: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "vectors.npy", np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32))
    code = _listing_at_the_end(["knn", "vectors.npy", "--quiet"], ("torch", "umap", "torchvision", "sklearn"))
    environment = clr_environment(clr_cache)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_similarity__of_a_resnet9_run_imports_torch_alone(trained: Path, clr_cache: Path, tmp_path: Path) -> None:
    for number, name in enumerate(("a.png", "b.png")):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    heavy = ("torch", "torchvision", "umap", "openTSNE", "sklearn", "scipy", "matplotlib", "tensorboard", "timm")
    code = _listing_at_the_end(["similarity", "a.png", "b.png", "--run", str(trained / "runs/small")], heavy)
    environment = clr_environment(clr_cache)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "['torch']"


def test_knn__looks_up_one_file_in_another(clr: Clr, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    table, queries = generator.normal(size=(300, 8)), generator.normal(size=(40, 8))
    table[123] = 2 * queries[7]
    labels = generator.integers(3, size=340)
    np.savez(tmp_path / "table.npz", embeddings=table.astype(np.float32), labels=labels[40:])
    np.savez(tmp_path / "asked.npz", embeddings=queries.astype(np.float32), labels=labels[:40])
    done = clr("knn", "table.npz", "--queries", "asked.npz", "-k", "4", "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    found = read_neighbors(tmp_path / "asked-neighbors.pkl")
    units, asked = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (table, queries))
    distances = 1 - asked @ units.T
    assert np.array_equal(found.indices, np.argsort(distances, axis=1)[:, :4])
    np.testing.assert_allclose(found.distances, np.sort(distances, axis=1)[:, :4], atol=1e-6)
    assert found.indices[7, 0] == 123
    assert done.json["same_class"] == pytest.approx((labels[40:][found.indices[:, 0]] == labels[:40]).mean())
    assert (done.json["count"], found.queries, found.source) == (40, "asked.npz", "table.npz")
    both = clr("knn", "table.npz", "--queries", "asked.npz", "--query", "x.png", cwd=tmp_path)
    assert both.code == 2
    over = clr("knn", "table.npz", "--queries", "asked.npz", "--out", "asked.npz", cwd=tmp_path)
    assert over.code == 2


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_knn__a_large_file_takes_little_memory(clr_cache: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    table = np.lib.format.open_memmap(tmp_path / "table.npy", "w+", np.float32, (1_000_000, 256))  # 1 GB
    for start in range(0, len(table), 50_000):
        table[start : start + 50_000] = generator.standard_normal((50_000, 256), dtype=np.float32)
    np.save(tmp_path / "queries.npy", table[::5000] + np.float32(0.01))
    table.flush()
    code = (
        "import os, runpy, sys\nend = os._exit\n"
        "def told(code):\n"
        "    status = open('/proc/self/status')\n"
        "    print(next(line.split()[1] for line in status if line.startswith('VmHWM')), flush=True)\n"
        "    end(code)\n"
        "os._exit = told\nsys.argv = 'clr knn table.npy --queries queries.npy --quiet'.split()\n"
        "runpy.run_module('contrastive_cli', run_name='__main__')\n"
    )
    environment = clr_environment(clr_cache)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    found = read_neighbors(tmp_path / "queries-neighbors.pkl")
    assert np.array_equal(found.indices[:, 0], np.arange(0, 1_000_000, 5000))
    (peak,) = (line for line in done.stdout.splitlines() if line.isdecimal())
    assert int(peak) * 1024 < 350e6


def test_knn__refuses_a_pickle_that_runs_code(clr: Clr, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (eval, ("open('owned', 'w').close()",))

    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"embeddings": Evil()}))
    result = clr("knn", "evil.pkl", cwd=tmp_path)
    assert result.code == 4
    assert "eval" in result.err
    assert not (tmp_path / "owned").exists()


def mixed_photos(folder: Path, *, count: int) -> None:
    """Photos of every awkward kind, cut from scikit-learn's two sample pictures."""
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    sources = load_sample_images().images
    folder.mkdir()
    for number in range(count):
        source = sources[number % 2]
        top, left = rng.integers(0, source.shape[0] - 100), rng.integers(0, source.shape[1] - 120)
        picture = Image.fromarray(source[top : top + 100, left : left + 120])
        kind = number % 6
        if kind == 0:
            picture.save(folder / f"{number:03d}.jpg")
        elif kind == 1:
            picture.save(folder / f"{number:03d}.png")
        elif kind == 2:
            picture.convert("P", palette=Image.Palette.ADAPTIVE).save(folder / f"{number:03d}.png")
        elif kind == 3:
            gray = np.asarray(picture.convert("L")).astype(np.uint16) * 257
            Image.fromarray(gray).save(folder / f"{number:03d}.png")
        elif kind == 4:
            picture.convert("CMYK").save(folder / f"{number:03d}.jpg")
        else:
            exif = Image.Exif()
            exif[0x0112] = 6
            picture.save(folder / f"{number:03d}.jpg", exif=exif)
    buffer = io.BytesIO()
    Image.fromarray(sources[0]).save(buffer, "JPEG")
    (folder / "truncated.jpg").write_bytes(buffer.getvalue()[:5000])
    (folder / "text.jpg").write_text("not a picture")
    (folder / "[red]x.png").write_bytes((folder / "001.png").read_bytes())


def test_folder__mixed_photos_pretrain_embed_and_plot(clr: Clr, tmp_path: Path) -> None:
    mixed_photos(tmp_path / "photos", count=297)
    data = ["--dataset", "folder", "--data-dir", "photos", "--set", "dataset.size=32"]
    small = ["--set", "encoder.width=4", "--precision", "fp32"]
    trained = clr("pretrain", *small, *data, "--epochs", "2", "--out", "run", cwd=tmp_path)
    assert trained.code == 0, trained.err
    bad = (tmp_path / "run" / "bad_files.csv").read_text()
    assert "truncated.jpg" in bad or "text.jpg" in bad
    embedded = clr("embed", "photos", "--run", "run", cwd=tmp_path)
    assert embedded.code == 0, embedded.err
    assert "298 embeddings" in embedded.out
    assert "text.jpg" in embedded.err
    plotted = clr("plot", "embeddings", "embeddings.pkl", "--projection", "pca", "--out", "map.png", cwd=tmp_path)
    assert plotted.code == 0, plotted.err
    assert (tmp_path / "map.png").stat().st_size > 5000
    labels = clr("linear-eval", "--run", "run", cwd=tmp_path)
    assert labels.code == 3
    assert "no labels" in labels.err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["linear-eval", "--head", "cubic"], 2),
        (["linear-eval", "--label-fraction", "2"], 2),
        (["linear-eval", "--run", "nope"], 5),
        (["embed", "--layer", "q"], 2),
        (["embed", "--split", "nope"], 2),
        (["embed", "nope.png"], 3),
        (["embed", "--out", "x.tiff"], 2),
        (["knn", "nope.pkl"], 3),
        (["knn", "embeddings.pkl", "--metric", "taxi"], 2),
        (["similarity", "one.png"], 2),
        (["similarity", "one.png", "two.png"], 3),
        (["plot", "nothing"], 2),
        (["plot", "embeddings", "--out", "x.gif"], 2),
        (["nonsense"], 2),
    ],
)
def test_commands__errors_are_one_json_object(clr: Clr, trained: Path, arguments: list[str], code: int) -> None:
    result = clr(*arguments, "--json", cwd=trained)
    assert result.code == code, result.err
    assert result.json["error"]["code"] == code
    assert result.json["error"]["message"]
    assert "Traceback" not in result.err


def test_runs__lists_what_was_trained(clr: Clr, trained: Path) -> None:
    listed = clr("runs", "--json", cwd=trained).json["runs"]
    assert [run["run"] for run in listed] == ["small"]
    assert listed[0]["status"] == "finished"


def test_doctor__finds_this_machine_well(clr: Clr, tmp_path: Path) -> None:
    result = clr("doctor", "--json", cwd=tmp_path)
    assert result.code == 0, result.out
    assert not list(tmp_path.iterdir())


def test_doctor__a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    environment = clr_environment(tmp_path / "file" / "cache")
    done = subprocess.run(clr_command(["doctor", "--json"]), cwd=tmp_path, env=environment, capture_output=True)
    assert done.returncode == 1
    assert [check["name"] for check in json.loads(done.stdout)["checks"] if not check["ok"]] == ["cache"]


def test_output__survives_a_closed_pipe(clr_cache: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        clr_command(["datasets"]),
        cwd=tmp_path,
        env=clr_environment(clr_cache),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()


def test_runs__a_damaged_one_is_named(clr: Clr, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "broken"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text('{"schema_version": 1}')
    listed = clr("runs", "--json", cwd=tmp_path)
    assert listed.code == 0
    assert listed.json["runs"] == []
    assert "left out: runs/broken/manifest.json is not a manifest of clr" in listed.err
