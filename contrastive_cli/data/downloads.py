"""Fetch a dataset from its publisher."""

from __future__ import annotations

from pathlib import Path

from contrastive_cli.core.errors import DataError
from contrastive_cli.data.spec import DatasetSpec


def download_dataset(spec: DatasetSpec, *, data_dir: Path) -> None:
    """Fetch and unpack all splits of a dataset below `data_dir`.

    Raises:
        DataError: If there is nothing to fetch it from, no network, or what came is damaged.
    """
    if spec.fetch is None:
        raise DataError(f"dataset {spec.name} cannot be downloaded", hint="say where it is with --data-dir")
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        spec.fetch(data_dir)
    except (OSError, RuntimeError, EOFError) as error:  # URLError and HTTPError are OSErrors
        raise DataError(
            f"could not download {spec.name}: {' '.join(str(error).split())}",
            hint=f"check the network, or put the files into {data_dir} yourself",
            path=data_dir,
        ) from None
