"""timm's models as encoders: built, filled with the weights that it publishes, and what each of them wants to see."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from contrastive_cli.core.config import Config, build_foreign, did_you_mean
from contrastive_cli.core.errors import DataError, UsageError
from contrastive_cli.core.framing import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    LARGEST_SIDE,
    EncoderInput,
    Framing,
    Interpolation,
)
from contrastive_cli.models.encoder import Encoder

PREFIX = "timm/"
PUBLISHED = "pretrained"

_Side = Annotated[int, Field(ge=1, le=LARGEST_SIDE)]


class TimmInput(Config, extra="ignore"):
    """What timm's `pretrained_cfg`, in its registry or in a config.json, says of pictures."""

    input_size: tuple[int, _Side, _Side] = (3, 224, 224)
    interpolation: Interpolation = "bicubic"
    crop_pct: float = Field(0.875, gt=0, le=1)
    crop_mode: Literal["center", "squash", "border"] = "center"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[Annotated[float, Field(gt=0)], ...] = IMAGENET_STD


def timm_encoder(name: str, *, channels: int, size: int, weights: str | None, patch_size: int | None = None) -> Encoder:
    """One of timm's models without its classifier, for images [B, channels, size, size].

    Args:
        name: With a tag or without one, such as vit_small_patch14_dinov2.lvd142m.
        channels: Of the images.
        size: Side of the images.
        weights: "pretrained" or a tag for those that timm publishes; None for fresh ones.
        patch_size: Side of a ViT's patches; None leaves the model's own.

    Raises:
        UsageError: If timm is absent, or has no such model or weights, or none of such sizes.
        DataError: If the weights cannot be fetched.
    """
    timm = import_timm()
    refuse_unknown(name)
    if weights is not None:
        name = published_name(name, weights)
    options: dict[str, Any] = {"pretrained": weights is not None, "num_classes": 0, "in_chans": channels}
    if patch_size is not None:
        options["patch_size"] = patch_size
    # A ViT with dynamic sizes takes small views too; convolutional nets take any size and refuse both arguments.
    kinds: list[dict[str, Any]] = [{"img_size": size, "dynamic_img_size": True}, {"img_size": size}, {}]
    net: Any = None
    for number, kind in enumerate(kinds):
        try:
            net = timm.create_model(name, **options, **kind)
            break
        except TypeError:
            if number + 1 < len(kinds):
                continue
            raise UsageError(f"timm/{name} takes no encoder.patch_size; it has no patches") from None
        except (AssertionError, ValueError) as error:
            raise UsageError(f"timm/{name} cannot be made for images of {size} px: {_one_line(error)}") from error
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"timm/{name} cannot be had: {_one_line(error)}",
                hint="give its weights by a file or folder: --weights model.safetensors",
            ) from error
    try:
        with torch.no_grad():
            net.embedding_dim = net.eval()(torch.zeros(1, channels, size, size)).shape[1]
    except (AssertionError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"timm/{name} takes no images of {size} px: {_one_line(error)}", hint=_fitting_size(net, size=size)
        ) from error
    return net.train()  # type: ignore[no-any-return]


def _fitting_size(net: Any, *, size: int) -> str:
    """A hint at the nearest size that patches divide."""
    patch = getattr(getattr(net, "patch_embed", None), "patch_size", None)
    if not isinstance(patch, tuple) or patch[0] != patch[1]:
        return "try another --set dataset.size, or take another encoder"
    side = max(1, round(size / patch[0])) * patch[0]
    return f"its patches are of {patch[0]} px: --set dataset.size={side}, or take another encoder"


def published_name(name: str, weights: str) -> str:
    """The name with the tag of the published weights.

    Raises:
        UsageError: If timm publishes no such weights of this model.
    """
    base, _, tag = name.partition(".")
    tags = published_tags(name)
    if not tags:
        raise UsageError(f"timm publishes no weights of {base}", hint="give a file or folder by --weights")
    if weights == PUBLISHED:
        return name
    if weights not in tags:
        raise UsageError(f"timm/{base} has no weights {weights!r}{did_you_mean(weights, [PUBLISHED, *tags])}")
    if tag and tag != weights:
        raise UsageError(f"timm/{name} names the weights {tag!r}, and --weights {weights!r} others")
    return f"{base}.{weights}"


def published_tags(name: str) -> list[str]:
    """The tags of the weights that timm publishes of a model."""
    base = name.partition(".")[0]
    found: list[str] = import_timm().list_pretrained(f"{base}.*")
    return [full.partition(".")[2] for full in found if full.partition(".")[0] == base]


def registered_input(name: str) -> EncoderInput:
    """What the registry says that a model, or the weights of its tag, wants to see."""
    from timm.models import get_pretrained_cfg

    cfg: Any = get_pretrained_cfg(name)
    return read_timm_input({} if cfg is None else cfg.to_dict(), origin=f"timm's configuration of {name}")


def read_timm_input(fields: Mapping[str, Any], *, origin: str) -> EncoderInput:
    """The input of an encoder from the fields of a `pretrained_cfg`.

    Raises:
        DataError: If they are none, or ask for what this package does not do.
    """
    given = {key: value for key, value in fields.items() if value is not None}
    found = build_foreign(TimmInput, given, origin=origin)
    channels, height, width = found.input_size
    if height != width:
        raise DataError(f"{origin} asks for pictures of {height} x {width} pixels, and clr makes squares only")
    if found.crop_mode == "border":
        hint = "add --set preprocess.rule=shorter to cut them instead"
        raise DataError(f"{origin} pads pictures, which clr does not", hint=hint)
    mean, std = (values * channels if len(values) == 1 else values for values in (found.mean, found.std))
    if not len(mean) == len(std) == channels:
        raise DataError(f"{origin} has {len(mean)} means and {len(std)} deviations for {channels} channels")
    framing = Framing(
        resize=math.floor(height / found.crop_pct),
        rule="squash" if found.crop_mode == "squash" else "shorter",
        interpolation=found.interpolation,
    )
    return EncoderInput(size=height, framing=framing, mean=mean, std=std, origin=origin)


def refuse_unknown(name: str) -> None:
    """Ask that timm has a model of that name.

    Raises:
        UsageError: If it has none.
    """
    timm = import_timm()
    base, _, tag = name.partition(".")
    if timm.is_model(base) and tag and tag not in (tags := published_tags(name)):
        raise UsageError(f"timm has no weights {tag!r} of {base}{did_you_mean(tag, tags)}")
    if not timm.is_model(base):
        near = did_you_mean(name, timm.list_models()) if name else ""
        raise UsageError(f"timm has no model {name!r}{near if 'did you mean' in near else ''}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def import_timm() -> Any:
    """The package.

    Raises:
        UsageError: If it is not installed.
    """
    try:
        import timm
    except ImportError:
        raise UsageError("timm encoders need the extra", hint="pip install 'contrastive-cli[timm]'") from None
    return timm
