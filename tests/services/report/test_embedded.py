"""What a report embeds is what `clr embed` writes: in the space that the run chose, image by image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from clr_process import Clr

from contrastive_cli.core.runs import Run
from contrastive_cli.embeddings.files import read_embeddings
from contrastive_cli.services.report.embedded import Embedded, embed_test_images


def test_embed_test_images__as_clr_embed(clr: Clr, trained: Path, tmp_path: Path) -> None:
    assert clr("embed", "--run", "runs/small", "--out", tmp_path / "e.npz", cwd=trained).code == 0
    written = read_embeddings(tmp_path / "e.npz")
    found = embed_test_images(
        Run(trained / "runs" / "small"), limit=50, data_dir=None, device="cpu", seed=3, progress=None
    )
    assert isinstance(found, Embedded)
    assert len(found.rows) == 50
    np.testing.assert_allclose(found.vectors, written.vectors[found.rows], rtol=0, atol=1e-5)
    assert found.kind == written.model["space"]
