"""Views per second at 32 px: crop, flip, jitter, grayscale and blur of photographs, ours against per-image libraries.

Run: python -m benchmarks.views [--threads 2] [--batch-size 512] [--rounds 5] [--seed 0]

Every contestant makes two normalized views of the same tiles of scikit-learn's sample photographs with the same
probabilities and strengths (lightly has a fixed blur kernel). Rounds take turns, so a busy machine slows all alike;
the rate per CPU second of the process is what other load disturbs least.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.record import Row, record
from contrastive_cli.engine.allocator import keep_freed_memory
from contrastive_cli.views.augment import make_views
from contrastive_cli.views.recipe import RECIPES, Recipe

SIDE = 32
MEAN, STD = (0.48, 0.45, 0.41), (0.25, 0.24, 0.26)
RECIPE = RECIPES["simclr"]
Contestant = tuple[Callable[[], Any], int]
Rates = tuple[float, float]
MIN_SECONDS = 0.5


def main() -> None:
    """Measure, and print one table of rates and one line on the agreement of the two modes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", action="store_true", help="keep the result for docs/speed.md")
    options = parser.parse_args()
    keep_freed_memory()  # as a training does, here for all sides
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    tiles = photographs(options.batch_size)
    contestants = {
        "clr fast": ours(tiles, mode="fast", seed=options.seed),
        "clr fast, crop and flip only": ours(tiles, mode="fast", seed=options.seed, recipe=RECIPES["light"]),
        "clr exact": ours(tiles, mode="exact", seed=options.seed),
        "torchvision v2, one process": torchvision_per_image(tiles[:32]),
        **lightly_per_image(tiles[:32]),
    }
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, {options.threads} threads,")
    print(f"{len(tiles)} tiles of {SIDE} px, seed {options.seed}, median of {options.rounds} rounds\n")
    rates = measure(contestants, rounds=options.rounds)
    print_table(rates)
    fast, exact = (views(tiles, mode=mode, seed=options.seed, unit=True) for mode in ("fast", "exact"))
    difference = (fast - exact).abs()
    print(f"\nfast - exact, pixels in [0, 1]: mean {difference.mean():.4f}, max {difference.max():.3f}")
    if options.record:
        mine = rates.pop("clr fast")[0]
        rows = [
            Row(
                what=f"views of the whole SimCLR recipe with blur, {SIDE} px, {len(tiles)} images at once",
                clr=mine,
                unit="views/s",
                peer=name,
                theirs=rate,
                rounds=options.rounds,
            )
            for name, (rate, _) in rates.items()
            if "process" in name
        ]
        record("views", rows, threads=options.threads)


def photographs(num: int) -> Tensor:
    """[num, 3, SIDE, SIDE] uint8 tiles, drawn with repetition beyond what the two photographs hold."""
    from sklearn.datasets import load_sample_images

    tiles = []
    for picture in load_sample_images().images:
        cut = torch.tensor(picture).permute(2, 0, 1).unfold(1, SIDE, SIDE).unfold(2, SIDE, SIDE)
        tiles.append(cut.permute(1, 2, 0, 3, 4).flatten(0, 1))
    every = torch.cat(tiles)
    return every[torch.randperm(max(num, len(every)))[:num] % len(every)].contiguous()


def ours(tiles: Tensor, *, mode: str, seed: int, recipe: Recipe = RECIPE) -> Contestant:
    """Two views of every tile in one call."""
    return (lambda: views(tiles, mode=mode, seed=seed, recipe=recipe)), 2 * len(tiles)


def views(tiles: Tensor, *, mode: str, seed: int, recipe: Recipe = RECIPE, unit: bool = False) -> Tensor:
    """[2, B, 3, SIDE, SIDE]; `unit` leaves the pixels in [0, 1]."""
    recipe = recipe.model_copy(update={"mode": mode})
    mean, std = ((0.0,) * 3, (1.0,) * 3) if unit else (MEAN, STD)
    indices = torch.arange(len(tiles))
    pairs = tiles.expand(2, *tiles.shape)
    return make_views(
        pairs, recipes=[recipe, recipe], indices=indices, size=SIDE, mean=mean, std=std, seed=seed, epoch=0
    )


def torchvision_per_image(tiles: Tensor) -> Contestant:
    """The same operations on uint8 tensors, one image after the other, as a DataLoader worker runs them."""
    from torchvision.transforms import v2

    color = v2.ColorJitter(RECIPE.brightness, RECIPE.contrast, RECIPE.saturation, RECIPE.hue)
    blur = v2.GaussianBlur(RECIPE.kernel_size(SIDE), sigma=RECIPE.blur_sigma)
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(SIDE, scale=RECIPE.crop_area, ratio=RECIPE.crop_aspect, antialias=True),
            v2.RandomHorizontalFlip(RECIPE.flip_probability),
            v2.RandomApply([color], p=RECIPE.jitter_probability),
            v2.RandomGrayscale(RECIPE.grayscale_probability),
            v2.RandomApply([blur], p=RECIPE.blur_probability),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    return (lambda: torch.stack([transform(tile) for tile in tiles for _ in range(2)])), 2 * len(tiles)


def lightly_per_image(tiles: Tensor) -> dict[str, Contestant]:
    """Lightly's SimCLR transform on PIL images, if lightly is installed."""
    try:
        from lightly.transforms import SimCLRTransform  # type: ignore[attr-defined]
    except ImportError:
        return {}
    from torchvision.transforms.functional import to_pil_image

    transform = SimCLRTransform(
        input_size=SIDE,
        cj_prob=RECIPE.jitter_probability,
        cj_strength=0.5,
        min_scale=RECIPE.crop_area[0],
        random_gray_scale=RECIPE.grayscale_probability,
        gaussian_blur=RECIPE.blur_probability,
        sigmas=RECIPE.blur_sigma,
        normalize={"mean": list(MEAN), "std": list(STD)},
    )
    pictures = [to_pil_image(tile) for tile in tiles]
    return {"lightly, one process": ((lambda: [transform(picture) for picture in pictures]), 2 * len(tiles))}


def measure(contestants: dict[str, Contestant], *, rounds: int) -> dict[str, Rates]:
    """Median views per second, and per CPU second, of each."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for make, _ in contestants.values():
        make()
    for _ in range(rounds):
        for name, (make, _) in contestants.items():
            make()  # the others have just filled the processor's caches; a training makes views step after step
            start, cpu_start, calls = time.perf_counter(), time.process_time(), 0
            while calls == 0 or time.perf_counter() - start < MIN_SECONDS:
                make()
                calls += 1
            seconds[name].append(((time.perf_counter() - start) / calls, (time.process_time() - cpu_start) / calls))
    rates = {}
    for name, (_, num) in contestants.items():
        wall, cpu = zip(*seconds[name], strict=True)
        rates[name] = (num / statistics.median(wall), num / statistics.median(cpu))
    return rates


def print_table(rates: dict[str, Rates]) -> None:
    """A Markdown table; the ratios are against torchvision."""
    reference = rates["torchvision v2, one process"]
    print(
        f"| {'':30s} | views/s | ratio | views/CPU s | ratio |\n| {'-' * 30} | ------: | ----: | ----------: | ----: |"
    )
    for name, (wall, cpu) in rates.items():
        print(f"| {name:30s} | {wall:7,.0f} | {wall / reference[0]:5.1f} | {cpu:11,.0f} | {cpu / reference[1]:5.1f} |")


if __name__ == "__main__":
    main()
