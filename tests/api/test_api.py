"""The Python API gives the numbers of the commands, to the bit, and costs nothing before it is used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from clr_process import TINY, Clr
from PIL import Image

import contrastive_cli as clr_package
from contrastive_cli import ClrError, ImageEncoder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Pictures of several shapes and modes, more than go through the network at once."""
    folder, noise = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    shapes = {"RGB": (40, 57, 3), "L": (70, 33), "RGBA": (32, 32, 4)}
    for number in range(150):
        mode = ("RGB", "L", "RGBA")[number % 3]
        pixels = noise.integers(0, 256, shapes[mode], dtype=np.uint8)
        Image.fromarray(pixels, mode).save(folder / f"{number:03d}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def encoder(trained: Path) -> ImageEncoder:
    return clr_package.load(trained / "runs/small", device="cpu")


@pytest.fixture(scope="module")
def embedded(clr: Clr, trained: Path, photos: list[Path]) -> clr_package.Embeddings:
    """What `clr embed` writes of the photos."""
    done = clr("embed", *photos, "--out", "photos.npz", "--overwrite", "--device", "cpu", cwd=trained)
    assert done.code == 0, done.err
    return clr_package.read_embeddings(trained / "photos.npz")


def test_import__loads_nothing_heavy() -> None:
    code = "import contrastive_cli as clr, sys; clr.__version__; dir(clr); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"torch", "numpy", "pydantic", "typer", "yaml", "PIL"}


def test_names__are_there_and_no_others() -> None:
    for name in dir(clr_package):
        assert getattr(clr_package, name) is not None
    for package in (clr_package.losses, clr_package.views):
        assert all(callable(getattr(package, name)) or name == "RECIPES" for name in dir(package))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        clr_package.nonsense  # noqa: B018


@pytest.mark.parametrize("batch_size", [1, 64, 1000])
def test_encode__of_files_is_clr_embed(
    encoder: ImageEncoder, photos: list[Path], embedded: clr_package.Embeddings, batch_size: int
) -> None:
    vectors = encoder.encode(photos, batch_size=batch_size)
    assert vectors.dtype == np.float32
    assert np.array_equal(vectors, embedded.vectors)


def test_encode__of_a_split_is_clr_embed(clr: Clr, trained: Path, encoder: ImageEncoder) -> None:
    from sklearn.datasets import load_digits  # the dataset of the run: digits of 8 x 8 pixels

    assert load_digits().images.shape[1:] == (8, 8)
    assert clr("embed", "--out", "split.npz", "--overwrite", "--device", "cpu", cwd=trained).code == 0
    saved = clr(
        "datasets", "digits", "--save-images", "split", "--split", "test", "--count", "359", "--json", cwd=trained
    )
    assert saved.code == 0, saved.err
    files = sorted(saved.json["files"], key=lambda file: int(Path(file).stem.rpartition("-")[2]))
    pixels = np.stack([np.asarray(Image.open(trained / file)) for file in files])[..., None]  # [N, H, W, 1]
    assert np.array_equal(encoder.encode(pixels), clr_package.read_embeddings(trained / "split.npz").vectors)


def test_encode__takes_paths_pictures_arrays_and_tensors(encoder: ImageEncoder, photos: list[Path]) -> None:
    expected = encoder.encode(photos)
    opened = [Image.open(path) for path in photos]
    mixed = [str(path) if number % 2 else np.asarray(Image.open(path)) for number, path in enumerate(photos)]
    assert np.array_equal(encoder.encode(opened), expected)
    assert np.array_equal(encoder.encode(mixed), expected)
    assert np.array_equal(encoder.encode(np.array([str(path) for path in photos])), expected)
    square = np.stack([np.asarray(Image.open(path)) for path in photos[2::3]])  # [50, 32, 32, 4]
    assert np.array_equal(encoder.encode(square), encoder.encode(photos[2::3]))
    assert np.array_equal(encoder.encode(torch.from_numpy(square).movedim(3, 1)), encoder.encode(photos[2::3]))
    assert np.array_equal(encoder.encode(encoder.preprocess(photos)), expected)
    assert encoder.encode(photos[0]).shape == (1, encoder.embedding_dim)


def test_encode__normalizes(encoder: ImageEncoder, photos: list[Path]) -> None:
    vectors, units = encoder.encode(photos[:5]), encoder.encode(photos[:5], normalize=True)
    np.testing.assert_allclose(units, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), rtol=1e-6)


def test_module__is_plain_and_gives_the_embedding(encoder: ImageEncoder, photos: list[Path]) -> None:
    images = encoder.preprocess(photos[:20])
    assert (images.dtype, images.shape) == (torch.float32, (20, 1, encoder.size, encoder.size))
    module = encoder.module
    assert isinstance(module, torch.nn.Module)
    assert not module.training
    torch.testing.assert_close(
        module(images), torch.from_numpy(encoder.encode(photos[:20], space="raw")), rtol=1e-4, atol=1e-5
    )


def test_progress__is_asked_for_and_goes_to_stderr(
    encoder: ImageEncoder, photos: list[Path], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contrastive_cli.cli.console.PLAIN_SECONDS", 0.0)
    encoder.encode(photos, batch_size=50)
    assert capfd.readouterr() == ("", "")
    encoder.encode(photos, batch_size=50, progress=True)
    out, err = capfd.readouterr()
    assert not out
    assert "encoding: 150/150" in err


@pytest.mark.parametrize(
    ("pictures", "said"),
    [
        ([], "no images were given"),
        (["missing.png"], "missing.png"),
        ([Path()], "is a folder"),
        (None, "NoneType"),
        ([np.zeros((0, 5, 3), np.uint8)], "0, 5, 3"),
        ([Image.new("RGB", (0, 5))], "0 x 5"),
        (np.zeros((5, 40, 40), np.uint8), "40 channels"),
        (np.zeros((2, 8, 8, 3), np.float32), "float32"),
        (np.zeros((2, 8, 8, 2), np.uint8), "2 channels"),
        (torch.zeros(2, 1, 5, 5), "must be"),
    ],
)
def test_encode__says_what_cannot_be_a_picture(encoder: ImageEncoder, pictures: object, said: str) -> None:
    with pytest.raises(ClrError, match=said):
        encoder.encode(pictures)  # type: ignore[arg-type]


@pytest.mark.slow
def test_uncertainty__is_clr_embeds(clr: Clr, photos: list[Path], encoder: ImageEncoder, tmp_path: Path) -> None:
    run = ["pretrain", *TINY, "--method", "prob-simclr", "--epochs", "1", "--out", "runs/unsure"]
    assert clr(*run, cwd=tmp_path).code == 0
    assert clr("embed", *photos, "--out", "unsure.npz", cwd=tmp_path).code == 0
    found = clr_package.load(tmp_path / "runs/unsure", device="cpu").uncertainty(photos)
    assert np.array_equal(found, np.load(tmp_path / "unsure.npz")["uncertainty"])
    with pytest.raises(ClrError, match="simclr has no uncertainty"):
        encoder.uncertainty(photos)


def test_similarity__is_the_commands(clr: Clr, trained: Path, encoder: ImageEncoder, photos: list[Path]) -> None:
    options = ("--layer", "h", "--average", "none", "--json", "--device", "cpu")
    two = clr("similarity", *photos[:2], *options, cwd=trained).json["similarity"]
    three = clr("similarity", *photos[:3], *options, cwd=trained).json["similarity"]
    vectors = encoder.encode(photos[:3])
    assert clr_package.similarity(*encoder.encode(photos[:2])) == two
    assert np.array_equal(clr_package.similarity(vectors), np.array(three))
    np.testing.assert_allclose(clr_package.similarity(vectors[:1], vectors), np.array(three)[:1], rtol=1e-12)
    assert clr_package.similarity([1.0, 0.0], [[0.0, 2.0], [3.0, 0.0]]).tolist() == [[0, 1]]  # type: ignore[union-attr]
    with pytest.raises(ClrError, match="shapes"):
        clr_package.similarity([1.0], [1.0, 2.0])


def test_nearest_neighbors__are_the_commands(clr: Clr, trained: Path, embedded: clr_package.Embeddings) -> None:
    done = clr("knn", "photos.npz", "-k", "4", "--metric", "euclidean", "--out", "near.npz", cwd=trained)
    assert done.code == 0, done.err
    found = clr_package.nearest_neighbors(embedded.vectors, 4, metric="euclidean")
    with np.load(trained / "near.npz") as near:
        assert np.array_equal(found.indices, near["indices"])
        assert np.array_equal(found.distances, near["distances"])
    assert clr_package.nearest_neighbors([[0.0, 1.0], [1.0, 0.0], [0.1, 1.0]], 1).indices.tolist() == [[2], [2], [0]]


def test_read_embeddings__as_a_frame(clr: Clr, trained: Path, embedded: clr_package.Embeddings) -> None:
    assert clr("embed", "--out", "split.npz", "--overwrite", "--device", "cpu", cwd=trained).code == 0
    split = clr_package.read_embeddings(trained / "split.npz")
    frame = split.frame()
    assert list(frame.columns[:4]) == ["path", "label", "index", "embedding_0"]
    assert np.array_equal(frame.filter(like="embedding_").to_numpy(), split.vectors)
    assert split.labels is not None
    assert list(frame["label"]) == [split.classes[label] for label in split.labels]
    assert list(embedded.frame().columns[:2]) == ["path", "embedding_0"]


def test_frame__without_pandas_is_of_pyarrow(trained: Path, embedded: clr_package.Embeddings) -> None:
    code = f"""
import sys
class Without:
    def find_spec(name, path=None, target=None):
        if name == "pandas":
            raise ModuleNotFoundError("No module named 'pandas'", name=name)
sys.meta_path.insert(0, Without)
import contrastive_cli as clr
table = clr.read_embeddings({str(trained / "photos.npz")!r}).frame()
print(type(table).__module__, table.num_rows, table.column_names[:2])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=1)[0].startswith("pyarrow")
    assert "150 ['path', 'embedding_0']" in done.stdout


def test_load__an_encoder_that_exists_gives_what_its_library_gives(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timm = pytest.importorskip("timm")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    net = timm.create_model("test_vit", num_classes=0).eval()
    torch.save(net.state_dict(), "vit.pth")
    encoder = clr_package.load("timm/test_vit", weights="vit.pth", device="cpu")
    assert encoder.run.parent.name == "runs"
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(net))
    colored = photos[::3]  # timm's transform leaves gray and transparency as they are
    with torch.no_grad():
        expected = net(torch.stack([transform(Image.open(path)) for path in colored])).numpy()
    cosines = (encoder.encode(colored, normalize=True) * expected).sum(axis=1) / np.linalg.norm(expected, axis=1)
    assert cosines.min() > 0.9999
    assert encoder.encode(np.zeros((1, 50, 40), np.uint8)[0]).shape == (1, encoder.embedding_dim)  # gray stands for all
    with pytest.raises(ClrError, match="add --weights"):
        clr_package.load("resnet50")


def test_load__a_missing_run_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ClrError, match="no run at"):
        clr_package.load(tmp_path / "nothing")
