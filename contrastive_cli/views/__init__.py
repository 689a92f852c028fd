"""Batched augmentation on the device, with counter-based draws: `clr.views.make_views(images, ...)`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contrastive_cli.core.lazy import lazy_names

if TYPE_CHECKING:
    from contrastive_cli.views.augment import make_views as make_views
    from contrastive_cli.views.augment import to_input as to_input
    from contrastive_cli.views.preprocessing import Preprocessing as Preprocessing
    from contrastive_cli.views.recipe import RECIPES as RECIPES
    from contrastive_cli.views.recipe import Recipe as Recipe

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Preprocessing": "contrastive_cli.views.preprocessing",
        "RECIPES": "contrastive_cli.views.recipe",
        "Recipe": "contrastive_cli.views.recipe",
        "make_views": "contrastive_cli.views.augment",
        "to_input": "contrastive_cli.views.augment",
    },
)
