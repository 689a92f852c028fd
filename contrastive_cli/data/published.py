"""The published datasets: where their files lie, how they are read, and the names of their classes."""

from __future__ import annotations

import functools

import numpy as np

from contrastive_cli.data.archives import Archive, read_cifar, read_idx, read_stl10, read_svhn
from contrastive_cli.data.scan import stratified_split
from contrastive_cli.data.sources import Request, Samples, Source, array_samples

TEN_DIGITS = tuple("0123456789")
CIFAR100_NAMES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""

ARCHIVES = {
    "cifar10": Archive(
        folders=("cifar-10-batches-py", "."),
        files={"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)},
        read=functools.partial(read_cifar, label_key="labels", num_classes=10),
        classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    ),
    "cifar100": Archive(
        folders=("cifar-100-python", "."),
        files={"train": ("train",), "test": ("test",)},
        read=functools.partial(read_cifar, label_key="fine_labels", num_classes=100),
        classes=tuple(CIFAR100_NAMES.split()),
    ),
    "stl10": Archive(
        folders=("stl10_binary", "."),
        files={
            "train": ("train_X.bin", "train_y.bin"),
            "test": ("test_X.bin", "test_y.bin"),
            "unlabeled": ("unlabeled_X.bin",),
        },
        read=read_stl10,
        classes=("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"),
    ),
    "svhn": Archive(
        folders=(".", "svhn"),
        files={"train": ("train_32x32.mat",), "test": ("test_32x32.mat",)},
        read=read_svhn,
        classes=TEN_DIGITS,
    ),
    "fashion-mnist": Archive(
        folders=("FashionMNIST/raw", "fashion-mnist", "."),
        files={
            "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
            "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
        },
        read=functools.partial(read_idx, num_classes=10),
        classes=(
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
    ),
}


def open_digits(request: Request) -> Source:
    """scikit-learn's digits, which come with it; it has no test part, so one is drawn by class."""

    def load() -> Samples:
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = np.rint(digits.images * (255.0 / 16.0)).astype(np.uint8)[:, None]  # gray levels 0..16
        labels = digits.target.astype(np.int64)
        train, test = stratified_split(labels, seed=request.seed)
        kept = train if request.split == "train" else test
        prefix = f"digits/{request.split}"
        return array_samples(images[kept], labels[kept], classes=TEN_DIGITS, prefix=prefix, size=request.size)

    return Source(
        name=request.name,
        split=request.split,
        size=request.size,
        channels=request.channels,
        identity=(f"seed {request.seed}",),
        load=load,
    )
