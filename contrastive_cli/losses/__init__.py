"""The losses as functions of projections: `clr.losses.nt_xent(z1, z2, temperature=0.5)`. No config, no trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contrastive_cli.core.lazy import lazy_names

if TYPE_CHECKING:
    from contrastive_cli.losses.contrastive import count_positives as count_positives
    from contrastive_cli.losses.contrastive import nt_xent as nt_xent
    from contrastive_cli.losses.contrastive import nt_xent_multiview as nt_xent_multiview
    from contrastive_cli.losses.contrastive import sup_con as sup_con
    from contrastive_cli.losses.probabilistic import expected_likelihood as expected_likelihood
    from contrastive_cli.losses.probabilistic import gaussian_likelihood as gaussian_likelihood
    from contrastive_cli.losses.probabilistic import mc_info_nce as mc_info_nce
    from contrastive_cli.losses.probabilistic import view_likelihood as view_likelihood

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "count_positives": "contrastive_cli.losses.contrastive",
        "nt_xent": "contrastive_cli.losses.contrastive",
        "nt_xent_multiview": "contrastive_cli.losses.contrastive",
        "sup_con": "contrastive_cli.losses.contrastive",
        "expected_likelihood": "contrastive_cli.losses.probabilistic",
        "gaussian_likelihood": "contrastive_cli.losses.probabilistic",
        "mc_info_nce": "contrastive_cli.losses.probabilistic",
        "view_likelihood": "contrastive_cli.losses.probabilistic",
    },
)
