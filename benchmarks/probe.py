"""Time of a linear probe with ten penalties, and its accuracy beside scikit-learn's.

    python -m benchmarks.probe --samples 50000 --dimensions 512 --threads 2 [--sklearn]

The features are synthetic and seeded: ten classes of four Gaussian clusters each, correlated noise, overlapping.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from benchmarks.record import Row, record
from contrastive_cli.embeddings.probes.linear_probe import DEFAULT_PENALTIES, fit_probe
from contrastive_cli.embeddings.probes.logistic_regression import fit_linear

NUM_CLASSES = 10


def clustered(num_samples: int, num_dimensions: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Features [N, D] with a spectrum falling like 1/rank, as embeddings have, and labels [N]."""
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(NUM_CLASSES, 4, num_dimensions, generator=generator)
    mixing = torch.linalg.qr(torch.randn(num_dimensions, num_dimensions, generator=generator)).Q
    spectrum = 8 / torch.arange(1, num_dimensions + 1).sqrt()
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(NUM_CLASSES, (num_samples,), generator=generator)
    clusters = torch.randint(4, (num_samples,), generator=generator)
    noise = torch.randn(num_samples, num_dimensions, generator=generator)
    return ((0.16 * centers[labels, clusters] + noise) * spectrum) @ mixing, labels


@contextlib.contextmanager
def stopwatch() -> Iterator[list[str]]:
    """Fill the list with wall and processor time; on a busy machine only the latter means something."""
    spent: list[str] = []
    wall, processor = time.perf_counter(), time.process_time()
    yield spent
    spent.append(f"{time.perf_counter() - wall:.2f} s wall, {time.process_time() - processor:.2f} s processor")


def main() -> None:
    """Print one line per measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sklearn", action="store_true", help="fit the chosen penalty with scikit-learn too (slow)")
    parser.add_argument("--record", action="store_true", help="keep the result for docs/speed.md")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    features, labels = clustered(options.samples, options.dimensions, seed=1)
    test_features, test_labels = clustered(10_000, options.dimensions, seed=2)
    began = time.perf_counter()
    with stopwatch() as spent:
        heads = fit_linear(features, labels, penalties=DEFAULT_PENALTIES, num_classes=NUM_CLASSES)
    swept = time.perf_counter() - began
    print(f"sweep of {len(DEFAULT_PENALTIES)}: {spent[0]}, steps {heads.iterations.tolist()}")
    began = time.perf_counter()
    with stopwatch() as spent:
        probe = fit_probe(features, labels, seed=0)
    fitted = time.perf_counter() - began
    accuracy = probe.accuracy(test_features, test_labels)
    print(f"fit_probe: {spent[0]}, penalty {probe.penalty:.2g}, test {accuracy:.4f}")
    peer, theirs = "", None
    if options.sklearn:
        peer = "scikit-learn, one penalty"
        theirs = _compare(probe.penalty, features, labels, test_features, test_labels)
    if options.record:
        size = f"{options.samples:,} x {options.dimensions}, {len(DEFAULT_PENALTIES)} penalties"
        rows = [
            Row(what=f"linear heads, {size}", clr=swept, unit="s", peer=peer, theirs=theirs),
            Row(
                what=f"linear head with the penalty chosen on a split, {size}",
                clr=fitted,
                unit="s",
                peer=peer,
                theirs=theirs,
            ),
        ]
        record("probe", rows, threads=options.threads)


def _compare(penalty: float, features: Tensor, labels: Tensor, test_features: Tensor, test_labels: Tensor) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(features.numpy())
    model = LogisticRegression(C=1 / (len(features) * penalty), max_iter=1000, tol=1e-4)
    began = time.perf_counter()
    with stopwatch() as spent:
        model.fit(scaler.transform(features.numpy()), labels.numpy())
    seconds = time.perf_counter() - began
    accuracy = np.mean(model.predict(scaler.transform(test_features.numpy())) == test_labels.numpy())
    print(f"scikit-learn, this one penalty: {spent[0]}, test {accuracy:.4f}")
    return seconds


if __name__ == "__main__":
    main()
