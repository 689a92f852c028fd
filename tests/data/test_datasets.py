"""Each reader on a small file written in the format that the dataset is published in."""

from __future__ import annotations

import gzip
import os
import pickle
import resource
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contrastive_cli.core.errors import DataError, UnsafeFileError, UsageError
from contrastive_cli.data.archives import read_cifar
from contrastive_cli.data.cache import ImageSet
from contrastive_cli.data.datasets import DATASETS, find_dataset, open_dataset

ROOT = Path(__file__).parents[2]
GENERATOR = np.random.default_rng(0)


def random_images(*shape: int) -> np.ndarray:
    return GENERATOR.integers(0, 256, size=shape, dtype=np.uint8)


def write_cifar(folder: Path, name: str, images: np.ndarray, labels: list[int], *, key: str = "labels") -> None:
    """As Python 2 pickled it: bytes keys, protocol 2."""
    folder.mkdir(parents=True, exist_ok=True)
    batch = {b"data": images.reshape(len(images), -1), key.encode(): labels, b"filenames": [b"a.png"] * len(labels)}
    (folder / name).write_bytes(pickle.dumps(batch, protocol=2))


def write_idx(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = struct.pack(f">I{values.ndim}I", 0x0800 + values.ndim, *values.shape) + values.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_tree(root: Path, *names: str, side: int = 8) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random_images(side, side, 3)).save(root / name)


def open_small(name: str, split: str, data_dir: Path | None, *, size: int) -> ImageSet:
    return open_dataset(name, split=split, data_dir=data_dir, size=size)


@pytest.mark.parametrize("nested", [True, False])
def test_open_dataset__cifar10_batches(tmp_path: Path, nested: bool) -> None:
    folder = tmp_path / "cifar-10-batches-py" if nested else tmp_path
    images = random_images(10, 3, 32, 32)
    for number in range(5):
        part = slice(2 * number, 2 * number + 2)
        write_cifar(folder, f"data_batch_{number + 1}", images[part], [number, 9 - number])
    write_cifar(folder, "test_batch", images[:3], [3, 2, 1])
    train = open_small("cifar10", "train", tmp_path, size=32)
    np.testing.assert_array_equal(train.images, images)
    assert train.labels.tolist() == [0, 9, 1, 8, 2, 7, 3, 6, 4, 5]
    assert train.classes[9] == "truck"
    assert train.paths[3] == "cifar10/train/00003"
    test = open_small("cifar10", "test", tmp_path, size=16)
    assert test.images.shape == (3, 3, 16, 16)
    assert test.labels.tolist() == [3, 2, 1]


def test_open_dataset__cifar10_with_a_missing_batch(tmp_path: Path) -> None:
    write_cifar(tmp_path, "data_batch_1", random_images(2, 3, 32, 32), [0, 1])
    with pytest.raises(DataError, match="incomplete: data_batch_2, data_batch_3"):
        open_small("cifar10", "train", tmp_path, size=32)


def test_open_dataset__cifar100_uses_fine_labels(tmp_path: Path) -> None:
    images = random_images(3, 3, 32, 32)
    write_cifar(tmp_path / "cifar-100-python", "train", images, [99, 0, 50], key="fine_labels")
    train = open_small("cifar100", "train", tmp_path, size=32)
    np.testing.assert_array_equal(train.images, images)
    assert [train.classes[label] for label in train.labels] == ["worm", "apple", "mouse"]
    assert len(train.classes) == len(set(train.classes)) == 100


class Malicious:
    """Runs a command when unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch pwned",)


def test_open_dataset__malicious_cifar_pickle_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test_batch").write_bytes(pickle.dumps({b"data": Malicious(), b"labels": [0]}, protocol=2))
    with pytest.raises(UnsafeFileError, match=r"asks for 'posix\.system'"):
        open_small("cifar10", "test", tmp_path, size=32)
    assert not (tmp_path / "pwned").exists()


def test_open_dataset__cifar_pickle_with_a_huge_memo_index_takes_no_memory(tmp_path: Path) -> None:
    (tmp_path / "test_batch").write_bytes(b"\x80\x02}r" + struct.pack("<I", 1 << 26) + b".")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UnsafeFileError, match="memo index"):
        open_small("cifar10", "test", tmp_path, size=32)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_read_cifar__as_python_2_wrote_it(tmp_path: Path) -> None:
    """Text, keys and the codes of types are bytes, as in the published files."""
    pixels = np.arange(2 * 3072, dtype=np.uint8).reshape(2, 3072)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02M\x00\x0c\x86"
        b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"T" + struct.pack("<i", pixels.size) + pixels.tobytes() + b"tb"
    )
    names = b"U\tfilenames](U\x05a.pngU\x05b.pnge"
    (tmp_path / "batch").write_bytes(b"\x80\x02}(U\x04data" + array + b"U\x06labels](K\x03K\x05e" + names + b"u.")
    images, labels = read_cifar([tmp_path / "batch"], label_key="labels", num_classes=10)
    np.testing.assert_array_equal(images.reshape(2, 3072), pixels)
    assert labels.tolist() == [3, 5]


@pytest.mark.parametrize(
    "batch",
    [
        {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]},
        {b"data": np.zeros((1, 3072), np.uint8), b"labels": [10]},
        {b"data": np.zeros((1, 3072), np.uint8), b"labels": ["a"]},
        {b"data": np.zeros((1, 100), np.uint8), b"labels": [0]},
        {b"data": np.zeros((1, 3072), np.int64), b"labels": [0]},
        {b"data": np.array([None]), b"labels": [0]},
        {b"labels": [0]},
        [1, 2],
    ],
)
def test_open_dataset__damaged_cifar_batch(tmp_path: Path, batch: object) -> None:
    (tmp_path / "test_batch").write_bytes(pickle.dumps(batch, protocol=2))
    with pytest.raises(DataError, match="is damaged"):
        open_small("cifar10", "test", tmp_path, size=32)


def test_open_dataset__truncated_cifar_batch(tmp_path: Path) -> None:
    write_cifar(tmp_path, "whole", random_images(1, 3, 32, 32), [0])
    content = (tmp_path / "whole").read_bytes()
    for sixteenths in range(16):
        (tmp_path / "test_batch").write_bytes(content[: len(content) * sixteenths // 16])
        with pytest.raises(DataError, match="is damaged"):
            open_small("cifar10", "test", tmp_path, size=32)


def write_stl10(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    folder.mkdir(parents=True)
    labeled, unlabeled = random_images(4, 3, 96, 96), random_images(3, 3, 96, 96)
    for split in ("train", "test"):
        (folder / f"{split}_X.bin").write_bytes(labeled.transpose(0, 1, 3, 2).tobytes())
        (folder / f"{split}_y.bin").write_bytes(bytes([1, 10, 5, 2]))
    (folder / "unlabeled_X.bin").write_bytes(unlabeled.transpose(0, 1, 3, 2).tobytes())
    return labeled, unlabeled


def test_open_dataset__stl10_binaries(tmp_path: Path) -> None:
    labeled, unlabeled = write_stl10(tmp_path / "stl10_binary")
    train = open_small("stl10", "train", tmp_path, size=96)
    np.testing.assert_array_equal(train.images, labeled)
    assert train.labels.tolist() == [0, 9, 4, 1]
    both = open_small("stl10", "train+unlabeled", tmp_path, size=96)
    np.testing.assert_array_equal(both.images, np.concatenate([labeled, unlabeled]))
    assert both.labels.tolist() == [0, 9, 4, 1, -1, -1, -1]
    assert both.paths[-1] == "stl10/unlabeled/00002"
    alone = open_small("stl10", "unlabeled", tmp_path, size=24)
    assert alone.images.shape == (3, 3, 24, 24)
    assert not alone.has_labels


def test_open_dataset__stl10_of_the_wrong_length(tmp_path: Path) -> None:
    write_stl10(tmp_path / "stl10_binary")
    os.truncate(tmp_path / "stl10_binary" / "test_X.bin", 1000)
    with pytest.raises(DataError, match="whole number"):
        open_small("stl10", "test", tmp_path, size=96)
    (tmp_path / "stl10_binary" / "train_y.bin").write_bytes(bytes([1, 2, 3, 11]))
    with pytest.raises(DataError, match="labels from 0 to 10"):
        open_small("stl10", "train", tmp_path, size=96)


def test_open_dataset__svhn_matlab_file(tmp_path: Path) -> None:
    from scipy.io import savemat

    images = random_images(5, 3, 32, 32)
    labels = np.array([[10], [1], [9], [5], [10]], dtype=np.uint8)
    savemat(tmp_path / "test_32x32.mat", {"X": images.transpose(2, 3, 1, 0), "y": labels}, do_compression=True)
    test = open_small("svhn", "test", tmp_path, size=32)
    np.testing.assert_array_equal(test.images, images)
    assert test.labels.tolist() == [0, 1, 9, 5, 0]


@pytest.mark.parametrize("content", [b"", b"text" * 100, b"MATLAB 5.0 MAT-file" + bytes(200)])
def test_open_dataset__damaged_svhn(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "test_32x32.mat").write_bytes(content)
    with pytest.raises(DataError, match="is damaged"):
        open_small("svhn", "test", tmp_path, size=32)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("folder", ["FashionMNIST/raw", "."])
def test_open_dataset__fashion_mnist_idx(tmp_path: Path, suffix: str, folder: str) -> None:
    images = random_images(4, 28, 28)
    write_idx(tmp_path / folder / f"t10k-images-idx3-ubyte{suffix}", images)
    write_idx(tmp_path / folder / f"t10k-labels-idx1-ubyte{suffix}", np.array([9, 0, 1, 2], dtype=np.uint8))
    test = open_small("fashion-mnist", "test", tmp_path, size=28)
    np.testing.assert_array_equal(test.images[:, 0], images)
    assert test.channels == 1
    assert test.classes[test.labels[0]] == "Ankle boot"


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_open_dataset__damaged_idx(tmp_path: Path, suffix: str) -> None:
    images = tmp_path / f"t10k-images-idx3-ubyte{suffix}"
    write_idx(tmp_path / f"t10k-labels-idx1-ubyte{suffix}", np.zeros(4, dtype=np.uint8))
    write_idx(images, random_images(4, 28, 28))
    whole = images.read_bytes()
    lying = struct.pack(">IIII", 0x0803, 4_000_000_000, 1000, 1000)
    for content in (b"", whole[:10], whole[:-100], whole[4:], gzip.compress(lying) if suffix else lying):
        images.write_bytes(content)
        with pytest.raises(DataError, match="is damaged"):
            open_small("fashion-mnist", "test", tmp_path, size=28)


def test_open_dataset__digits_need_no_files() -> None:
    train, test = (open_small("digits", split, None, size=32) for split in ("train", "test"))
    assert train.images.shape[1:] == test.images.shape[1:] == (1, 32, 32)
    assert train.num_samples + test.num_samples == 1797
    assert abs(test.num_samples - 0.2 * 1797) < 1
    assert set(np.unique(test.labels)) == set(range(10))
    native = open_small("digits", "train", None, size=8)
    from sklearn.datasets import load_digits

    everything = {image.tobytes() for image in np.rint(load_digits().images * 255 / 16).astype(np.uint8)}
    assert {image.tobytes() for image in native.images} <= everything


def test_open_dataset__digits_train_and_test_share_no_sample() -> None:
    train, test = (open_small("digits", split, None, size=8) for split in ("train", "test"))
    from sklearn.datasets import load_digits

    everything = sorted(image.tobytes() for image in np.rint(load_digits().images * 255 / 16).astype(np.uint8))
    assert sorted(image.tobytes() for image in (*train.images, *test.images)) == everything


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "stl10", "svhn", "fashion-mnist", "lfw"])
def test_open_dataset__image_tree_of_a_published_dataset(tmp_path: Path, name: str) -> None:
    write_tree(tmp_path, "train/b/0.png", "train/a/1.png", "train/a/2.png", "test/b/3.png")
    train, test = (open_small(name, split, tmp_path, size=8) for split in ("train", "test"))
    assert train.paths == ("train/a/1.png", "train/a/2.png", "train/b/0.png")
    assert train.labels.tolist() == [0, 0, 1]
    assert test.labels.tolist() == [1]
    assert train.classes == test.classes == ("a", "b")
    assert train.channels == DATASETS[name].channels


def test_open_dataset__stl10_tree_with_unlabeled_images(tmp_path: Path) -> None:
    write_tree(tmp_path, "train/b/0.png", "train/a/1.png", "test/b/3.png", "unlabeled/x.png", "unlabeled/a/y.png")
    both = open_small("stl10", "train+unlabeled", tmp_path, size=8)
    assert dict(zip(both.paths, both.labels.tolist(), strict=True)) == {
        "train/a/1.png": 0,
        "train/b/0.png": 1,
        "unlabeled/a/y.png": -1,
        "unlabeled/x.png": -1,
    }


@pytest.mark.parametrize("layout", ["", "lfw", "lfw_home/lfw_funneled"])
def test_open_dataset__lfw_folder_per_person(tmp_path: Path, layout: str) -> None:
    people = [f"Person_{number}" for number in range(24)]
    write_tree(tmp_path / layout, *(f"{name}/{name}_{n:04d}.png" for name in people for n in range(5)))
    write_tree(tmp_path / layout, "Alone/Alone_0001.png")
    (tmp_path / layout / "pairs.txt").write_text("x")
    parts = {split: open_small("lfw", split, tmp_path, size=8) for split in ("train", "val", "test")}
    assert sum(part.num_samples for part in parts.values()) == 121
    assert all(part.classes == ("Alone", *sorted(people)) for part in parts.values())
    labels = {split: set(part.labels.tolist()) for split, part in parts.items()}
    assert set.union(*labels.values()) == set(range(25))
    assert sum(map(len, labels.values())) == 25  # nobody is in two parts
    before = {split: set(part.paths) for split, part in parts.items()}
    write_tree(tmp_path / layout, "Newcomer/Newcomer_0001.png", "Aaron/Aaron_0001.png")
    for split, paths in before.items():
        assert paths <= set(open_small("lfw", split, tmp_path, size=8).paths)


def test_open_dataset__folder_splits_and_classes(tmp_path: Path) -> None:
    write_tree(tmp_path, *(f"{kind}/{n}.png" for kind in ("cat", "dog") for n in range(10)))
    sets = {split: open_small("folder", split, tmp_path, size=8) for split in ("train", "test", "all")}
    assert sorted(sets["train"].paths + sets["test"].paths) == sorted(sets["all"].paths)
    assert np.bincount(sets["test"].labels).tolist() == [2, 2]
    with pytest.raises(DataError, match="no folder val"):
        open_small("folder", "val", tmp_path, size=8)


def test_open_dataset__folder_with_train_and_val(tmp_path: Path) -> None:
    write_tree(tmp_path, "train/a/1.png", "train/b/2.png", "val/b/3.png", "val/c/4.png")
    (tmp_path / "train" / "aa_empty").mkdir()
    assert open_small("folder", "train", tmp_path, size=8).classes == ("a", "b", "c")
    for split in ("val", "test"):
        assert open_small("folder", split, tmp_path, size=8).labels.tolist() == [1, 2]
    assert open_small("folder", "all", tmp_path, size=8).labels.tolist() == [0, 1, 1, 2]


def test_open_dataset__folder_with_train_only_is_split_within(tmp_path: Path) -> None:
    write_tree(tmp_path, *(f"train/{kind}/{n}.png" for kind in ("a", "b") for n in range(5)))
    train, test = (open_small("folder", split, tmp_path, size=8) for split in ("train", "test"))
    assert (train.num_samples, test.num_samples) == (8, 2)
    assert not set(train.paths) & set(test.paths)


def test_open_dataset__flat_folder_has_no_labels(tmp_path: Path) -> None:
    write_tree(tmp_path, *(f"{n}.png" for n in range(10)))
    train = open_small("folder", "train", tmp_path, size=8)
    assert (train.num_samples, train.has_labels, train.classes) == (8, False, ())


def test_open_dataset__folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"no images .*it holds 'notes\.txt'") as caught:
        open_small("folder", "all", tmp_path, size=8)
    assert caught.value.hint is not None
    assert ".jpeg" in caught.value.hint
    with pytest.raises(DataError, match="cannot list folder"):
        open_small("folder", "all", tmp_path / "absent", size=8)


@pytest.mark.parametrize("name", [name for name, spec in DATASETS.items() if spec.fetch is not None])
def test_open_dataset__absent_data_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        open_small(name, "train", None, size=32)
    assert caught.value.message.startswith(f"{name} is not in ./data (looked in ")
    assert all(place in caught.value.message for place in DATASETS[name].places)
    assert caught.value.hint is not None
    assert caught.value.hint.startswith(f"run `clr pretrain --dataset {name} --data-dir ./data --download`, or give ")


def test_open_dataset__wrong_usage() -> None:
    with pytest.raises(UsageError, match="did you mean 'cifar10'"):
        open_small("cifar-10", "train", None, size=32)
    with pytest.raises(UsageError, match="no split 'testing'; did you mean 'test'"):
        open_small("digits", "testing", None, size=32)
    with pytest.raises(UsageError, match="size of 0"):
        open_small("digits", "train", None, size=0)
    with pytest.raises(UsageError, match="needs --data-dir"):
        open_small("folder", "train", None, size=32)


def test_datasets__listing_needs_no_heavy_library() -> None:
    code = (
        "import sys; import contrastive_cli.data.datasets;"
        "print([name for name in ('torch', 'torchvision', 'sklearn', 'scipy') if name in sys.modules])"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert finished.stdout == "[]\n"


def test_datasets__entries_are_coherent() -> None:
    for name, spec in DATASETS.items():
        assert find_dataset(name) is spec
        assert spec.pretrain_split in spec.splits
        assert "\n" not in spec.help
        assert spec.classes is None or len(set(spec.classes)) == len(spec.classes)
    assert DATASETS["stl10"].pretrain_split == "train+unlabeled"
    recipes = {name: spec.recipe for name, spec in DATASETS.items()}
    assert (recipes["digits"], recipes["cifar10"], recipes["stl10"]) == ("digits", "simclr-small", "simclr")
    assert DATASETS["stl10"].recipe_at(64) == "simclr-small"


def test_open_dataset__real_cifar_images() -> None:
    folder = os.environ.get("CLR_TEST_DATA")
    if not folder or not (Path(folder) / "cifar" / "test").is_dir():
        pytest.skip("CLR_TEST_DATA does not point to a folder with cifar/{train,test}/<class>/*")
    test = open_small("cifar10", "test", Path(folder) / "cifar", size=32)
    assert test.images.shape == (10_000, 3, 32, 32)
    assert np.bincount(test.labels).tolist() == [1000] * 10
    assert test.classes == DATASETS["cifar10"].classes
    assert test.bad_files == ()
    np.testing.assert_allclose(test.mean, [0.49, 0.48, 0.45], atol=0.01)


def test_open_dataset__train_and_test_never_overlap_without_a_test_folder(tmp_path: Path) -> None:
    write_tree(tmp_path, *(f"train/{name}/{number}.png" for name in "ab" for number in range(10)), "unlabeled/x.png")
    train, test = (open_small("folder", split, tmp_path, size=8) for split in ("train", "test"))
    assert len(test.paths) > 0
    assert not set(train.paths) & set(test.paths)
    assert len(train.paths) + len(test.paths) == 20
