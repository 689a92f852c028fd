"""clr: learn visual representations from images, prove that they help, and use them.

    import contrastive_cli as clr

    encoder = clr.load("runs/x")
    vectors = encoder.encode(["a.jpg", "b.jpg"])  # float32 [2, D]

Nothing heavy is imported before one of the names is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from contrastive_cli.core.lazy import lazy_names

if TYPE_CHECKING:
    from contrastive_cli import losses as losses
    from contrastive_cli import views as views
    from contrastive_cli.api import load as load
    from contrastive_cli.api import nearest_neighbors as nearest_neighbors
    from contrastive_cli.api import read_embeddings as read_embeddings
    from contrastive_cli.api import similarity as similarity
    from contrastive_cli.core.errors import ClrError as ClrError
    from contrastive_cli.embeddings.files import Embeddings as Embeddings
    from contrastive_cli.embeddings.search.nearest_neighbors import Neighbors as Neighbors
    from contrastive_cli.image_encoder import ImageEncoder as ImageEncoder

__version__ = "0.1.0"

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "ClrError": "contrastive_cli.core.errors",
        "Embeddings": "contrastive_cli.embeddings.files",
        "ImageEncoder": "contrastive_cli.image_encoder",
        "Neighbors": "contrastive_cli.embeddings.search.nearest_neighbors",
        "load": "contrastive_cli.api",
        "losses": "contrastive_cli.losses",
        "nearest_neighbors": "contrastive_cli.api",
        "read_embeddings": "contrastive_cli.api",
        "similarity": "contrastive_cli.api",
        "views": "contrastive_cli.views",
    },
)
