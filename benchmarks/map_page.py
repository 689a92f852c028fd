"""The map as a page in headless Chromium: its size, seconds until it can be used, frames a second while it is moved.

    OMP_NUM_THREADS=2 python -m benchmarks.map_page --pictures DIR --images 10000 --side 48
    OMP_NUM_THREADS=2 python -m benchmarks.map_page --pictures DIR --images 50000 --side 32

DIR holds image files, at any depth; where they are fewer they come again. They are laid out by t-SNE of their pixels,
made small. A page can be used when a click on an image shows its nearest neighbors, with their pictures. Frames are
counted while the map goes round in circles: whole, so close that pictures appear by themselves, and whole with as many
pictures as there is room for. A browser draws no more than 60 a second, so what drawing takes by itself is said too.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.record import Row, record
from contrastive_cli.core.choices import ProjectionKind
from contrastive_cli.data.images import BadImage, decode
from contrastive_cli.data.packing import in_order
from contrastive_cli.embeddings.files import Embeddings
from contrastive_cli.services.figures.embedding_map import NEIGHBORS_SHOWN, Mapped, project_embeddings
from contrastive_cli.viz.embedding_map import EmbeddingMap, Thumbnails
from contrastive_cli.viz.page import write_page

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
COMPARED = 8  # pixels of a side of what the layout is made of
CIRCLE = """new Promise((done) => {
  const times = [], plane = planes[0];
  let angle = 0, last = performance.now();
  const end = last + MILLISECONDS;
  const next = () => {
    const now = performance.now();
    times.push(now - last);
    last = now;
    plane.pan(8 * Math.cos(angle), 8 * Math.sin(angle));
    angle += 0.05;
    requestDrawing();
    if (now < end) requestAnimationFrame(next); else done(times.slice(1));
  };
  requestAnimationFrame(next);
})"""
DRAWING = """(() => {
  const start = performance.now();
  for (let i = 0; i < 20; i++) { planes[0].pan(1, 0); planes[0].draw(); }
  return (performance.now() - start) / 20;
})()"""
VIEWS = {
    "the whole map": "chooseMarks('dots')",
    "close, with pictures": "chooseMarks('auto'); while (planes[0].drawn.length < 40 && planes[0].camera.zoom < 300) "
    "{ planes[0].zoomAt(planes[0].width / 2, planes[0].height / 2, 1.5); planes[0].draw(); "
    "await new Promise((done) => { setTimeout(done, 100); }); }",
    "the whole map of pictures": "view('reset'); chooseMarks('pictures')",
}
NEIGHBORS_PAINTED = (
    "document.querySelectorAll('#picked canvas').length > 1 "
    "&& [...document.querySelectorAll('#picked canvas')].every((canvas) => canvas.painted)"
)


def main() -> None:
    """Print a line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, required=True, metavar="DIR")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--side", type=int, default=32, help="pixels of a thumbnail")
    parser.add_argument("--projection", choices=("tsne", "umap", "pca"), default="tsne")
    parser.add_argument("--seconds", type=float, default=5.0, help="that a map is moved")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--page", type=Path, help="write the page there and keep it")
    parser.add_argument("--record", action="store_true", help="keep the result for docs/speed.md")
    options = parser.parse_args()
    pixels = read_pictures(options.pictures, count=options.images, side=options.side)
    shown = lay_out(pixels, projection=options.projection)
    with tempfile.TemporaryDirectory() as name:
        page = options.page or Path(name, "map.html")
        started = time.perf_counter()
        write_page([shown], page)
        print(f"written in {time.perf_counter() - started:.1f} s: {page.stat().st_size / 1e6:.1f} MB")
        ready, frames = measure(page, Path(name, "profile"), seconds=options.seconds, rounds=options.rounds)
        megabytes = page.stat().st_size / 1e6
    what = f"map of {options.images:,} images, pictures of {options.side} px"
    print(f"{what}: usable after {statistics.median(ready):.2f} s (from {min(ready):.2f} to {max(ready):.2f})")
    if options.record:
        rows = [
            Row(what=f"{what}: size of the page", clr=megabytes, unit="MB"),
            Row(what=f"{what}: until it can be used", clr=statistics.median(ready), unit="s", rounds=options.rounds),
            *(
                Row(what=f"{what}: moving {view}", clr=statistics.median(rates), unit="frames/s", rounds=options.rounds)
                for view, rates in frames.items()
            ),
        ]
        threads = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))
        record(f"map-page-{options.images}", rows, threads=threads)


def read_pictures(folder: Path, *, count: int, side: int) -> NDArray[np.uint8]:
    """Thumbnails [count, 3, side, side] of image files, in random order."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise SystemExit(f"no pictures in {folder}")
    chosen = np.random.default_rng(0).permutation(len(files))
    if len(files) < count:
        print(f"{len(files):,} pictures in {folder}, which come again")
    files = [files[index] for index in chosen[:count]]

    def read(index: int) -> NDArray[np.uint8] | None:
        try:
            return decode(files[index], size=side, channels=3)
        except BadImage:
            return None

    found = np.stack([pixels for pixels in in_order(read, len(files)) if pixels is not None])
    return found[np.arange(count) % len(found)]


def lay_out(pixels: NDArray[np.uint8], *, projection: ProjectionKind) -> EmbeddingMap:
    """A map of pictures by what they look like when they are small, with made-up classes and names."""
    count, _, side, _ = pixels.shape
    step = max(1, side // COMPARED)
    small = pixels[:, :, ::step, ::step].reshape(count, -1).astype(np.float32)
    small += np.random.default_rng(0).normal(size=small.shape).astype(np.float32)  # those that come again lie apart
    embeddings = Embeddings(
        vectors=small - small.mean(axis=0),
        labels=(pixels.reshape(count, -1).mean(axis=1) // 26).astype(np.int64).clip(0, 9),
        classes=tuple(f"class {number}" for number in range(10)),
        paths=tuple(f"photos/{number % 10}/{number:06d}.jpg" for number in range(count)),
    )
    mapped = Mapped(embeddings=embeddings, file=Path("pictures.npz"))
    chosen = np.arange(count)
    shown = project_embeddings(mapped, chosen, projections=[projection], num_neighbors=NEIGHBORS_SHOWN, seed=0)
    return replace(shown, thumbnails=Thumbnails(pixels=pixels, present=np.ones(count, np.bool_)))


def measure(page: Path, profile: Path, *, seconds: float, rounds: int) -> tuple[list[float], dict[str, list[float]]]:
    """Seconds until a page can be used, and frames a second of each view, of every round."""
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    from browser import browser, find_browser

    program = find_browser()
    if program is None:
        raise SystemExit("no Chromium is installed")
    ready: list[float] = []
    frames: dict[str, list[float]] = {view: [] for view in VIEWS}
    with browser(program, profile=profile) as tab:
        for _ in range(rounds):
            started = time.perf_counter()
            tab.open(page.resolve().as_uri())
            tab.run("(pick(order[0]), 0)")
            tab.wait_for(NEIGHBORS_PAINTED)
            ready.append(time.perf_counter() - started)
            tab.run("(clear(), 0)")
            for view, script in VIEWS.items():
                tab.run(f"(async () => {{ {script}; }})()")
                tab.settle()
                time.sleep(1)  # pictures that come late
                times: Any = tab.run(CIRCLE.replace("MILLISECONDS", str(1000 * seconds)))
                frames[view].append(1000 * len(times) / sum(times))
                slow, drawing = float(np.percentile(times, 95)), float(tab.run(DRAWING))
                pictures = tab.run("planes[0].drawn.length")
                print(
                    f"{view}: {frames[view][-1]:.1f} frames a second, 19 of 20 within {slow:.0f} ms; "
                    f"drawing takes {drawing:.1f} ms, {pictures} pictures"
                )
        assert (tab.complaints, tab.requests) == ([], [])
    return ready, frames


if __name__ == "__main__":
    main()
