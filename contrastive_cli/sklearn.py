"""A scikit-learn transformer from pictures to embeddings.

from contrastive_cli.sklearn import ImageEmbedder

classifier = make_pipeline(ImageEmbedder("runs/x"), LogisticRegression()).fit(paths, labels)
"""

from __future__ import annotations

import os
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import (  # noqa: TID253 - who imports this module has scikit-learn in use
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils.validation import check_is_fitted  # noqa: TID253

from contrastive_cli.api import load
from contrastive_cli.core.choices import Layer
from contrastive_cli.core.errors import DataError
from contrastive_cli.image_encoder import ImageEncoder


class ImageEmbedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Embed pictures with a trained encoder; nothing is learned by `fit`, which loads the encoder.

    X is a list or array of paths, or one column of them (also of a data frame), PIL images, or uint8 arrays
    [N, H, W, C]. A fitted embedder can be pickled: it holds the path of the run, and loads it again where it is used.

    Args:
        run: The directory of a run, or its name under `runs/`; None for the newest finished one.
        layer: h of the encoder, or z of the projector.
        normalize: Scale every vector to length 1.
        batch_size: About so many pictures are decoded and held at once.
        device: auto, cpu, cuda, cuda:1, mps.

    Attributes:
        run_: The directory of the run that was loaded.
        n_features_out_: Width D of the embedding.
    """

    def __init__(
        self,
        run: str | os.PathLike[str] | None = None,
        *,
        layer: Layer = "h",
        normalize: bool = False,
        batch_size: int = 64,
        device: str = "auto",
    ) -> None:
        self.run = run
        self.layer = layer
        self.normalize = normalize
        self.batch_size = batch_size
        self.device = device

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: N803 - scikit-learn's name
        """Load the encoder; of `X` the first picture is embedded, which tells the width.

        Raises:
            DataError: If there are no pictures, or the first cannot be read.
            RunError: If there is no such run.
        """
        encoder = load(self.run, device=self.device)
        first = _pictures(X)[:1]
        self.run_ = os.fspath(encoder.run.absolute())
        self._n_features_out = encoder.encode(first, layer=self.layer).shape[1]
        self._encoder: ImageEncoder = encoder
        return self

    @property
    def n_features_out_(self) -> int:
        """Width D of the embedding."""
        check_is_fitted(self)
        width: int = self._n_features_out
        return width

    def transform(self, X: Any) -> NDArray[np.float32]:  # noqa: N803
        """Pictures -> float32 [N, D].

        Raises:
            DataError: If a picture cannot be read.
        """
        check_is_fitted(self)
        if not hasattr(self, "_encoder"):
            self._encoder = load(self.run_, device=self.device)
        return self._encoder.encode(
            _pictures(X), batch_size=self.batch_size, normalize=self.normalize, layer=self.layer
        )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_n_features_out")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.input_tags.string = True
        tags.no_validation = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return {key: value for key, value in state.items() if key != "_encoder"}


def _pictures(table: Any) -> Any:
    """What the encoder takes; a frame, and an array of one column of names, become a list of them."""
    if hasattr(table, "to_numpy"):
        table = table.to_numpy()
    if isinstance(table, np.ndarray) and table.dtype.kind in "OUS" and table.ndim == 2:
        if table.shape[1] != 1:
            raise DataError(f"paths must be one column, not {table.shape[1]}")
        table = table[:, 0]
    if isinstance(table, str | os.PathLike) or not hasattr(table, "__len__") or len(table) == 0:
        raise DataError("X must be pictures: a list of paths, PIL images, or uint8 arrays")
    return table
