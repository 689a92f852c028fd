"""The order of training images: no two of its parts are tied, and no image is always left over."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from contrastive_cli.data.loader import balanced_batch_indices, batch_indices, draw_positions


def tie(one: np.ndarray, two: np.ndarray) -> float:
    return abs(float(np.corrcoef(one, two)[0, 1]))


def places(epoch: int, *, seed: int, count: int = 2000) -> np.ndarray:
    """Where in an epoch each sample comes."""
    _, order = batch_indices(step=epoch, num_samples=count, batch_size=count, seed=seed)
    return np.argsort(order.numpy())


def test_batch_indices__epochs_and_seeds_are_not_tied() -> None:
    own = places(0, seed=0)
    for other in (places(1, seed=0), places(0, seed=1), places(1, seed=1), np.arange(2000)):
        assert tie(own, other) < 0.1
    assert not np.array_equal(places(1, seed=0), places(0, seed=1))  # nor is one the other moved on


def test_batch_indices__every_image_is_left_over_now_and_then() -> None:
    seen = np.zeros(10, int)
    for step in range(40):  # batches of 4 of 10: two are left over in each of 20 epochs
        np.add.at(seen, batch_indices(step=step, num_samples=10, batch_size=4, seed=0)[1].numpy(), 1)
    assert seen.sum() == 160
    assert 8 <= seen.min() <= seen.max() < 20


def test_balanced_batch_indices__the_order_of_classes_is_not_that_of_their_images() -> None:
    """Whether a class comes early says nothing of which of its images come."""
    classes, images = 200, 8
    labels = np.repeat(np.arange(classes), images)
    early, number = [], []
    for step in range(20):
        _, order = balanced_batch_indices(
            step=step, labels=labels, batch_size=classes, images_per_class=1, seed=0
        )  # fmt: skip
        early += list(range(classes))
        number += (order.numpy() % images).tolist()
        assert sorted(labels[order]) == list(range(classes))
    assert tie(np.array(early), np.array(number)) < 0.05


def test_balanced_batch_indices__the_places_of_two_classes_are_not_tied_to_their_sizes() -> None:
    labels = np.repeat(np.arange(300), np.arange(300) % 5 + 2)
    rounds = [
        balanced_batch_indices(step=step, labels=labels, batch_size=600, images_per_class=2, seed=0)[1].numpy()
        for step in range(12)
    ]
    first = [np.unique(labels[order], return_index=True)[1] for order in rounds]  # where each class begins
    for one, two in itertools.pairwise(first):
        assert tie(one, two) < 0.2
    for order in first:
        assert tie(order, np.arange(300)) < 0.2
        assert tie(order, np.arange(300) % 5) < 0.2


def test_balanced_batch_indices__a_class_is_shuffled_anew_when_all_were_shown() -> None:
    labels = np.repeat(np.arange(4), 6)
    rounds = [
        balanced_batch_indices(step=step, labels=labels, batch_size=8, images_per_class=2, seed=0)[1].tolist()
        for step in range(12)
    ]
    cycles = [
        [tuple(index for index in order if labels[index] == 0) for order in rounds[start : start + 3]]
        for start in range(0, 12, 3)
    ]
    for cycle in cycles:
        assert sorted(index for shown in cycle for index in shown) == list(range(6))
    assert len({tuple(cycle) for cycle in cycles}) == 4


def test_balanced_batch_indices__seeds_differ_in_images_and_in_classes() -> None:
    labels = np.repeat(np.arange(50), 10)
    one, two = (
        balanced_batch_indices(step=0, labels=labels, batch_size=50, images_per_class=1, seed=seed)[1]
        for seed in (0, 1)
    )
    assert not torch.equal(torch.from_numpy(labels)[one], torch.from_numpy(labels)[two])
    assert set(one.tolist()) != set(two.tolist())


def test_draw_positions__from_everywhere() -> None:
    drawn = draw_positions(10_000, limit=100, seed=0)
    assert drawn.tolist() == sorted(set(drawn.tolist()))
    assert 4000 < drawn.mean() < 6000
    assert not np.array_equal(drawn, draw_positions(10_000, limit=100, seed=1))
    assert draw_positions(5, limit=100, seed=0).tolist() == [0, 1, 2, 3, 4]


def test_balanced_batch_indices__which_image_is_taken_says_nothing_of_when_its_class_comes() -> None:
    """Not even where classes and images have the same numbers: image 0 is of class 0, image 1 of class 0 too."""
    labels = np.repeat([0, 1], 4)
    first = []
    for seed in range(600):
        _, taken = balanced_batch_indices(step=0, labels=labels, batch_size=2, images_per_class=1, seed=seed)
        if 0 in taken:
            first.append(int(taken[0]) == 0)
    assert len(first) > 100
    assert 0.35 < np.mean(first) < 0.65
