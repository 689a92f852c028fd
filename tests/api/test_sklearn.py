"""The scikit-learn transformer, among scikit-learn's own tools and checks."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clr_process import Clr
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks

import contrastive_cli as clr_package
from contrastive_cli.sklearn import ImageEmbedder

CHECKS = (  # those of scikit-learn's that bring no table of numbers of their own
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_estimators_unfitted",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_n_features_in_after_fitting",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_valid_tag_types",
)


@pytest.fixture(scope="module")
def digits(clr: Clr, trained: Path) -> tuple[list[str], list[str]]:
    """Paths and classes of pictures of the test split."""
    saved = clr("datasets", "digits", "--save-images", "some", "--count", "80", "--json", cwd=trained)
    files = [str(trained / file) for file in saved.json["files"]]
    return files, [Path(file).stem.split("-")[0] for file in files]


@pytest.fixture
def embedder(trained: Path) -> Any:
    return ImageEmbedder(str(trained / "runs/small"), device="cpu")


@pytest.mark.parametrize("name", CHECKS)
def test_check__of_scikit_learn(embedder: Any, name: str) -> None:
    check = getattr(estimator_checks, name, None)
    if check is None:
        pytest.skip(f"this scikit-learn has no {name}")
    check(name, clone(embedder))


def test_pipeline__learns_from_paths(embedder: Any, digits: tuple[list[str], list[str]]) -> None:
    paths, classes = digits
    pipeline = make_pipeline(embedder, LogisticRegression(max_iter=1000))
    assert cross_val_score(pipeline, np.array(paths), classes, cv=2).mean() > 0.3  # chance is 0.1
    pipeline.fit(paths, classes)
    again = pickle.loads(pickle.dumps(pipeline))
    assert np.array_equal(again.predict(paths), pipeline.predict(paths))
    assert len(pickle.dumps(embedder.fit(paths))) < 2000  # the path of the run, not its weights


def test_transform__is_the_encoders(embedder: Any, digits: tuple[list[str], list[str]], trained: Path) -> None:
    paths = digits[0]
    encoder = clr_package.load(trained / "runs/small", device="cpu")
    assert np.array_equal(embedder.fit_transform(paths), encoder.encode(paths))
    units = clone(embedder).set_params(normalize=True).fit_transform(paths)
    assert np.array_equal(units, encoder.encode(paths, normalize=True))
    assert embedder.n_features_out_ == encoder.embedding_dim


def test_set_output__a_frame_with_names(embedder: Any, digits: tuple[list[str], list[str]]) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"path": digits[0]}, index=[f"row {number}" for number in range(80)])
    found = embedder.set_output(transform="pandas").fit_transform(frame)
    assert list(found.index) == list(frame.index)
    assert list(found.columns) == list(embedder.get_feature_names_out())
    assert found.columns[0] == "imageembedder0"
    assert np.array_equal(found.to_numpy(), embedder.set_output(transform="default").transform(digits[0]))


def test_embedder__refuses_what_is_no_picture(embedder: Any, digits: tuple[list[str], list[str]]) -> None:
    with pytest.raises(NotFittedError):
        embedder.transform(digits[0])
    refused: list[Any] = [[], "one.png", np.array([["a.png", "b.png"]]), np.zeros((3, 2))]
    for table in refused:
        with pytest.raises(clr_package.ClrError):
            embedder.fit(table)
