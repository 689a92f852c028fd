"""CIFAR-10 on this machine for a fixed time: `clr pretrain` beside lightly's documented SimCLR, one after the other.

    python -m benchmarks.cifar10 --data-dir DIR --minutes 15

DIR holds the images as {train,test}/<class>/*. Both encoders are judged alike: frozen features of the 50,000 training
images, a linear head whose penalty is chosen on a split of train, and a kNN-20 vote; the test split is used once.
lightly's recipe is that of its SimCLR tutorial: torchvision's ResNet-18 with its own stem, SimCLRTransform at 32 px
without blur, batch 256, SGD 0.06, NTXentLoss, fp32; two loader workers.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from contrastive_cli.data.cache import ImageSet
from contrastive_cli.data.datasets import open_dataset
from contrastive_cli.embeddings.probes.knn_vote import knn_vote
from contrastive_cli.embeddings.probes.linear_probe import fit_probe
from contrastive_cli.views.augment import to_input


def ours(data_dir: Path, *, minutes: float, seed: int, out: Path) -> dict[str, Any]:
    """Pretrain and evaluate with the project's own commands."""
    clr = [sys.executable, "-m", "contrastive_cli"]
    pretrain = ["pretrain", "--dataset", "cifar10", "--data-dir", str(data_dir), "--config", "cifar10-simclr-cpu"]
    options = ["--budget", f"{minutes}m", "--seed", str(seed), "--out", str(out), "--json"]
    trained = json.loads(subprocess.run([*clr, *pretrain, *options], check=True, stdout=subprocess.PIPE).stdout)
    evaluate = ["linear-eval", "--run", str(out), "--json"]
    rows = json.loads(subprocess.run([*clr, *evaluate], check=True, stdout=subprocess.PIPE).stdout)["rows"]
    table = {(row["features"], row["head"]): row["accuracy"] for row in rows}
    return {
        "seconds": trained["seconds"],
        "views_per_second": trained["views_per_second"],
        "linear": table["pretrained", "linear"],
        "knn20": table["pretrained", "knn"],
        "knn20_whitened": table["pretrained whitened", "knn"],
        "random_linear": table["random", "linear"],
        "pixels_linear": table["pixels", "linear"],
    }


def lightly_simclr(train: ImageSet, test: ImageSet, *, minutes: float, seed: int) -> dict[str, Any]:
    """Lightly's recipe for the same wall-clock time of training."""
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from torchvision.models import resnet18

    torch.manual_seed(seed)
    backbone = nn.Sequential(*list(resnet18().children())[:-1], nn.Flatten())
    head = SimCLRProjectionHead(512, 512, 128)
    loss_of = NTXentLoss()
    optimizer = torch.optim.SGD([*backbone.parameters(), *head.parameters()], lr=0.06)
    loader = torch.utils.data.DataLoader(
        lightly_views(train.images), batch_size=256, shuffle=True, drop_last=True, num_workers=2
    )
    started, views = time.monotonic(), 0
    while time.monotonic() - started < 60 * minutes:
        for first, second in loader:
            loss = loss_of(head(backbone(first)), head(backbone(second)))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            views += 2 * len(first)
            if time.monotonic() - started >= 60 * minutes:
                break
    seconds = time.monotonic() - started
    features = [_features(backbone, images) for images in (train, test)]
    labels = [torch.from_numpy(images.labels) for images in (train, test)]
    probe = fit_probe(features[0], labels[0], seed=0)
    votes = knn_vote(features[0], labels[0], queries=features[1], k=20)
    return {
        "seconds": round(seconds, 1),
        "views_per_second": round(views / seconds, 1),
        "linear": probe.accuracy(features[1], labels[1]),
        "knn20": (votes == labels[1]).float().mean().item(),
    }


def lightly_views(images: NDArray[np.uint8]) -> torch.utils.data.Dataset[list[Tensor]]:
    """Two views of each of the images [N, C, H, W], as lightly's tutorial makes them for 32 px."""
    from lightly.transforms import SimCLRTransform  # type: ignore[attr-defined]
    from PIL import Image

    class Views(torch.utils.data.Dataset[list[Tensor]]):
        transform = SimCLRTransform(input_size=32, gaussian_blur=0.0)

        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, index: int) -> list[Tensor]:
            views: list[Tensor] = self.transform(Image.fromarray(np.asarray(images[index]).transpose(1, 2, 0)))  # type: ignore[assignment]
            return views

    return Views()


def _features(backbone: nn.Module, images: ImageSet) -> Tensor:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # as SimCLRTransform normalizes
    backbone.eval()
    with torch.no_grad():
        chunks = (torch.from_numpy(np.array(images.images[i : i + 500])) for i in range(0, images.num_samples, 500))
        return torch.cat([backbone(to_input(chunk, size=32, mean=mean, std=std)) for chunk in chunks])


def main() -> None:
    """Run both and print a table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=["clr", "lightly"])
    parser.add_argument("--out", type=Path, default=None, help="run directory of clr; a temporary one by default")
    arguments = parser.parse_args()
    options: dict[str, Any] = {"minutes": arguments.minutes, "seed": arguments.seed}
    results: dict[str, Any] = {}
    if arguments.only != "lightly":
        out = arguments.out or Path(tempfile.mkdtemp()) / "clr"
        results["clr"] = ours(arguments.data_dir, out=out, **options)
    if arguments.only != "clr":
        sets = [
            open_dataset("cifar10", split=split, data_dir=arguments.data_dir, size=32) for split in ("train", "test")
        ]
        results["lightly"] = lightly_simclr(*sets, **options)
    machine = (
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    print(f"\nCIFAR-10, {arguments.minutes:g} minutes, seed {arguments.seed}; {machine}")
    for name, result in results.items():
        print(f"{name:8s} " + "  ".join(f"{key} {value:.4g}" for key, value in result.items()))
    print(json.dumps({"machine": machine, "minutes": arguments.minutes, "seed": arguments.seed, **results}))


if __name__ == "__main__":
    main()
