"""What a training begins with where it has weights of an encoder, and what that sees of the images."""

from __future__ import annotations

from contrastive_cli.core.errors import DataError
from contrastive_cli.core.manifest import Manifest, WeightsFacts
from contrastive_cli.core.types import ImageFacts
from contrastive_cli.data.cache import ImageSet
from contrastive_cli.models.encoder import Encoder
from contrastive_cli.models.weights.loading import load_encoder
from contrastive_cli.services.configuration import PretrainConfig
from contrastive_cli.views.preprocessing import Preprocessing


def preprocessing_of(config: PretrainConfig, images: ImageSet) -> Preprocessing:
    """From uint8 to what the encoder sees: what its weights brought with them, else as measured on the images.

    Raises:
        DataError: If the encoder takes other channels than the images have; gray ones stand for all colors.
    """
    assert config.dataset.size is not None, "the configuration was resolved"
    mean, std = config.preprocess.mean or images.mean, config.preprocess.std or images.std
    if images.channels not in (1, len(mean)) or len(mean) != len(std):
        raise DataError(
            f"{images.name} has images of {images.channels} channels, and the encoder takes {len(mean)}",
            hint="choose weights that were trained in color"
            if len(mean) == 1
            else "choose other weights, or give preprocess.mean and preprocess.std of the images' channels",
        )
    return Preprocessing(size=config.dataset.size, mean=mean, std=std)


def fresh_encoder(config: PretrainConfig) -> PretrainConfig:
    """The configuration of the same training from fresh weights."""
    return config.model_copy(update={"encoder": config.encoder.model_copy(update={"weights": None})})


def encoder_with_weights(
    config: PretrainConfig, images: ImageFacts, *, known: Manifest | None
) -> tuple[Encoder | None, WeightsFacts | None]:
    """The encoder that a training begins with, and what it came with; None where its weights are fresh.

    A `known` run has a checkpoint of its weights, so that those it began with are not read again.

    Raises:
        UsageError: If there are no such weights.
        DataError: If they are not all of the encoder.
    """
    if known is not None or config.encoder.weights is None:
        return None, None if known is None else known.weights
    encoder, facts = load_encoder(config.encoder, channels=images.channels, size=images.size)
    return encoder, facts.model_copy(update={"preprocessing": config.preprocess.origin or ""})
