"""A look at a split that has not been decoded yet: some of its images, and how long they took. Nothing is written."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

import numpy as np

from contrastive_cli.core.errors import DataError
from contrastive_cli.data.cache import ImageSet, find_cached
from contrastive_cli.data.images import BadImage, Images
from contrastive_cli.data.packing import decoding_threads
from contrastive_cli.data.quiet_decoders import quiet_decoders
from contrastive_cli.data.sources import BadFile, Samples, Source

SAMPLE_IMAGES = 300
SAMPLE_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampled:
    """Some images of a split, or all of them where they are decoded already.

    Attributes:
        images: The images that were looked at.
        total: Images of the whole split, as far as is known without decoding them.
        images_per_second: How fast they are decoded; None if they need not be.
    """

    images: ImageSet
    total: int
    images_per_second: float | None


def sample_images(source: Source, *, limit: int = SAMPLE_IMAGES, seconds: float = SAMPLE_SECONDS) -> Sampled:
    """The split from the cache, or at most `limit` of its images, decoded for about `seconds`.

    Raises:
        DataError: If none of them can be read.
    """
    cached = find_cached(source)
    if cached is not None:
        return Sampled(images=cached, total=cached.num_samples, images_per_second=None)
    samples = source.load()
    total = len(samples.paths)
    positions = np.random.default_rng(0).permutation(total)[:limit].tolist()
    good: dict[int, Images] = {}
    bad: list[BadFile] = []
    started = time.monotonic()
    for index, outcome in _decoded(samples, positions, until=started + seconds):
        if isinstance(outcome, BadFile):
            bad.append(outcome)
        else:
            good[index] = outcome
    taken = max(1e-6, time.monotonic() - started)
    if len(good) < 2:
        seen = bad[0].reason if bad else "it takes too long"
        raise DataError(f"of {len(good) + len(bad)} files of {source.name} that were tried few can be read: {seen}")
    kept = sorted(good)
    pixels = np.stack([good[index] for index in kept])
    scaled = pixels.reshape(*pixels.shape[:2], -1) / 255
    return Sampled(
        images=ImageSet(
            images=pixels,
            labels=samples.labels[np.array(kept)],
            classes=samples.classes,
            paths=tuple(samples.paths[index] for index in kept),
            name=source.name,
            split=source.split,
            fingerprint="",
            mean=tuple(scaled.mean(axis=(0, 2)).tolist()),
            std=tuple(np.maximum(scaled.std(axis=(0, 2)), 1 / 255).tolist()),
            bad_files=(*samples.unreadable, *bad),
            reading=source.reading,
        ),
        total=total,
        images_per_second=(len(good) + len(bad)) / taken,
    )


def _decoded(samples: Samples, positions: list[int], *, until: float) -> Iterator[tuple[int, Images | BadFile]]:
    """What came of each position; those that nobody began with at the time are left out."""

    def read(index: int) -> tuple[int, Images | BadFile] | None:
        if time.monotonic() > until:
            return None
        try:
            return index, samples.read(index)
        except BadImage as error:
            return index, BadFile(path=samples.paths[index], reason=error.reason)

    with quiet_decoders(), ThreadPoolExecutor(decoding_threads(), thread_name_prefix="decode") as pool:
        for future in as_completed([pool.submit(read, index) for index in positions]):
            outcome = future.result()
            if outcome is not None:
                yield outcome
