"""The whitened space: against a slow reference in float64, invariances, few and constant rows, damaged files."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf

from contrastive_cli.core.errors import DataError
from contrastive_cli.embeddings.contrast import neighborhood_contrast
from contrastive_cli.embeddings.similarity import cosine_matrix
from contrastive_cli.embeddings.space import Space, enter_space, leave_space, measure_space, shrunk_covariance
from contrastive_cli.embeddings.space_file import RunSpaces, decode_spaces, encode_spaces

Array = NDArray[np.float32]


def embeddings(count: int = 300, width: int = 24, seed: int = 0) -> Array:
    """Rows whose axes differ a hundredfold in spread, off the origin."""
    generator = np.random.default_rng(seed)
    turned = np.linalg.qr(generator.standard_normal((width, width)))[0]
    rows = generator.standard_normal((count, width)) * np.logspace(0, -2, width) @ turned + 3
    return np.asarray(rows, np.float32)


def rotation(width: int, seed: int) -> NDArray[np.float64]:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((width, width)))[0]


def slowly_whitened(rows: NDArray[np.float64], queries: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
    """One pair of numbers after the other, by the formulas; S^-p turned back, so that signs and order do not matter."""
    count, width = rows.shape
    center = [sum(row[d] for row in rows) / count for d in range(width)]
    centered = [[row[d] - center[d] for d in range(width)] for row in rows]
    covariance = np.array(
        [[sum(row[i] * row[j] for row in centered) / count for j in range(width)] for i in range(width)]
    )
    mean = sum(covariance[d][d] for d in range(width)) / width
    target = mean * np.eye(width)
    distance = ((covariance - target) ** 2).sum() / width  # d^2 of Lemma 3.2, with the norm |A|^2 = tr(AA') / D
    error = sum(((np.outer(row, row) - covariance) ** 2).sum() / width for row in centered) / count**2  # b^2
    weight = min(error, distance) / distance
    variances, axes = np.linalg.eigh((1 - weight) * covariance + weight * target)
    power = sum(value ** (-exponent / 2) * np.outer(axis, axis) for value, axis in zip(variances, axes.T, strict=True))
    return np.asarray((queries - np.array(center)) @ power)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("count", [9, 40])  # fewer and more than the 12 dimensions
def test_enter_space__equals_a_slow_reference_in_float64(exponent: float, count: int) -> None:
    rows, queries = embeddings(count, 12), embeddings(7, 12, seed=1)
    space = measure_space(rows, exponent=exponent)
    expected = cosine_matrix(slowly_whitened(rows.astype(float), queries.astype(float), exponent))
    np.testing.assert_allclose(cosine_matrix(enter_space(queries, space)), expected, atol=2e-5)


@pytest.mark.parametrize("count", [9, 40, 400])
def test_shrunk_covariance__equals_that_of_scikit_learn(count: int) -> None:
    rows = embeddings(count, 12).astype(float)
    expected, _ = ledoit_wolf(rows)
    np.testing.assert_allclose(shrunk_covariance(rows - rows.mean(axis=0)), expected, atol=1e-12)


@pytest.mark.parametrize("count", [10, 300])
def test_space__does_not_care_how_embeddings_are_turned_moved_or_scaled(count: int) -> None:
    rows, queries = embeddings(count), embeddings(50, seed=1)
    turn = rotation(rows.shape[1], 2)
    plain = cosine_matrix(enter_space(queries, measure_space(rows, exponent=0.75)))
    turned = [np.asarray(4 * (part @ turn) + 1, np.float32) for part in (rows, queries)]
    other = cosine_matrix(enter_space(turned[1], measure_space(turned[0], exponent=0.75)))
    np.testing.assert_allclose(other, plain, atol=1e-3)


def test_space__exponent_one_makes_all_axes_equally_wide() -> None:
    rows = np.asarray(np.random.default_rng(0).standard_normal((20_000, 24)) @ rotation(24, 3) * np.linspace(1, 3, 24))
    whitened = enter_space(rows, measure_space(rows, exponent=1.0))
    np.testing.assert_allclose(np.cov(whitened.T), np.eye(rows.shape[1]), atol=0.1)
    assert np.abs(whitened.mean(axis=0)).max() < 1e-2


def test_space__bits_of_a_row_do_not_depend_on_the_rows_beside_it() -> None:
    rows = embeddings(700, 129)
    space = measure_space(rows, exponent=0.75)
    assert np.array_equal(measure_space(rows.copy(), exponent=0.75).axes, space.axes)
    together = enter_space(rows, space)
    assert np.array_equal(
        np.concatenate([enter_space(rows[n : n + 1], space) for n in range(0, 700, 97)]), together[::97]
    )
    assert np.array_equal(enter_space(rows[::-1], space)[::-1], together)


@pytest.mark.parametrize("exponent", [0.0, 0.75, 1.0])
def test_leave_space__gives_the_embeddings_back(exponent: float) -> None:
    rows = embeddings()
    space = measure_space(rows, exponent=exponent)
    np.testing.assert_allclose(leave_space(enter_space(rows, space), space), rows, atol=2e-5)


def test_measure_space__constant_dimensions_stay_small() -> None:
    rows = embeddings(100, 10)
    rows[:, 4:] = 0.25
    whitened = enter_space(rows, measure_space(rows, exponent=1.0))
    assert np.isfinite(whitened).all()
    assert np.abs(whitened).max() < 20
    apart = rows.copy()
    apart[:, 4:] += 1e-6  # rounding noise in what was constant must not become a direction of its own
    moved = enter_space(apart, measure_space(rows, exponent=1.0))
    assert cosine_matrix(np.stack([whitened[0], moved[0]]))[0, 1] > 0.999


def test_measure_space__equal_rows_have_no_axes_to_divide_by() -> None:
    rows = np.full((5, 3), 2.0, np.float32)
    space = measure_space(rows, exponent=1.0)
    assert not enter_space(rows, space).any()
    assert np.array_equal(leave_space(enter_space(rows, space), space), rows)


@pytest.mark.parametrize("rows", [embeddings(1), np.zeros((3, 0), np.float32), np.zeros(5, np.float32)])
def test_measure_space__refuses_one_image_and_what_is_no_table(rows: Array) -> None:
    with pytest.raises(DataError, match="two embeddings or more"):
        measure_space(rows, exponent=1.0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_space__refuses_rows_that_are_not_finite(value: float) -> None:
    rows = embeddings()
    space = measure_space(rows, exponent=1.0)
    rows[7, 2] = value
    with pytest.raises(DataError, match="rows 7"):
        measure_space(rows, exponent=1.0)
    with pytest.raises(DataError, match="rows 7"):
        enter_space(rows, space)


def test_space__one_image_enters() -> None:
    rows = embeddings()
    space = measure_space(rows, exponent=0.75)
    assert enter_space(rows[:1], space).shape == (1, rows.shape[1])


def test_neighborhood_contrast__equals_loops() -> None:
    rows = embeddings(30, 5)
    cosines = cosine_matrix(rows)
    expected = []
    for image in range(30):
        others = sorted(cosines[image, other] for other in range(30) if other != image)
        expected.append((np.mean(others[-4:]) - np.mean(others)) / np.std(others))
    assert neighborhood_contrast(rows, k=4) == pytest.approx(np.mean(expected), rel=1e-9)


def test_neighborhood_contrast__finds_what_a_wide_direction_hides() -> None:
    generator = np.random.default_rng(0)
    groups = np.repeat(np.eye(10), 30, axis=0) + 0.2 * generator.standard_normal((300, 10))
    rows = np.concatenate([groups, 5 * generator.standard_normal((300, 1))], axis=1)
    by_exponent = [
        neighborhood_contrast(enter_space(rows, measure_space(rows, exponent=exponent))) for exponent in (0.0, 1.0)
    ]
    assert by_exponent[1] > 1.2 * max(by_exponent[0], neighborhood_contrast(rows))


def test_neighborhood_contrast__of_equal_rows_is_zero() -> None:
    assert neighborhood_contrast(np.ones((10, 3), np.float32)) == 0.0


def spaces() -> RunSpaces:
    return RunSpaces(
        layers={"h": measure_space(embeddings(), exponent=0.75), "z": measure_space(embeddings(width=8), exponent=1.0)},
        layer="h",
        kind="whitened",
        chosen_by="contrast",
        checkpoint="0" * 64,
        images=300,
        contrasts={"h raw": 2.0, "pixels": 1.5},
    )


def test_decode_spaces__reads_what_was_written() -> None:
    written = spaces()
    read = decode_spaces(encode_spaces(written))
    assert read.facts() == written.facts()
    for layer in ("h", "z"):
        for part in ("center", "axes", "spread"):
            assert np.array_equal(getattr(read.layers[layer], part), getattr(written.layers[layer], part))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"h_spread", b"h_spraed"),
        (b"clr-space/1", b"clr-space/9"),
        (b'\\"layer\\": \\"h\\"', b'\\"layer\\": \\"x\\"'),
        (b'\\"space\\": \\"whitened\\"', b'\\"space\\": \\"whitenee\\"'),
        (b'\\"images\\": 300', b'\\"images\\": []]'),
        (b'\\"h raw\\": 2.0', b'\\"h raw\\": NaN'),
        (b'\\"h\\": 0.75', b'\\"h\\": 9.75'),
        (b"F32", b"I32"),
        (b"[24,24]", b"[48,12]"),
        (b"h_center", b"q_center"),
    ],
)
def test_decode_spaces__refuses_what_was_edited(old: bytes, new: bytes) -> None:
    data = encode_spaces(spaces())
    assert old in data
    with pytest.raises(DataError):
        decode_spaces(data.replace(old, new))


def test_decode_spaces__refuses_damage_anywhere() -> None:
    data = encode_spaces(spaces())
    generator = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(data[: generator.integers(len(data))] if generator.random() < 0.3 else data)
        for place in generator.integers(len(damaged) or 1, size=3):
            if damaged:
                damaged[min(place, 1500) % len(damaged)] = generator.integers(256)
        try:
            read = decode_spaces(bytes(damaged))
        except DataError:
            continue
        assert all(np.isfinite(space.axes).all() and (space.spread > 0).all() for space in read.layers.values())


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, -1.0])
def test_space__refuses_a_spread_that_nothing_can_be_divided_by(value: float) -> None:
    space = measure_space(embeddings(), exponent=1.0)
    spread = space.spread.copy()
    spread[3] = value
    with pytest.raises(DataError, match="spread"):
        Space(center=space.center, axes=space.axes, spread=spread, exponent=1.0)
