"""CIFAR-100, by its fine labels. Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html."""

from __future__ import annotations

import functools
from pathlib import Path

from contrastive_cli.data.archives import Archive, read_cifar
from contrastive_cli.data.published import published


def fetch(data_dir: Path) -> None:
    """Download and unpack it below a folder."""
    from torchvision import datasets

    datasets.CIFAR100(data_dir, download=True)


CLASSES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""

DATASET = published(
    name="cifar100",
    help="60,000 color images of 100 kinds of things, 32 px",
    size=32,
    recipe="simclr-small",
    archive=Archive(
        folders=("cifar-100-python", "."),
        files={"train": ("train",), "test": ("test",)},
        read=functools.partial(read_cifar, label_key="fine_labels", num_classes=100),
        classes=tuple(CLASSES.split()),
    ),
    fetch=fetch,
)
