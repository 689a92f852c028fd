"""Seconds of `clr datasets check` with its page and its table, and where they go.

    OMP_NUM_THREADS=2 python -m benchmarks.check --folder DIR [--count 50000 --stages --profile]
    OMP_NUM_THREADS=2 python -m benchmarks.check --folder DIR --photos 5000

`--count` checks the first so many image files of DIR only, as links in a folder of their own. `--photos` makes as many
photographs of 1200 x 900 pixels of the files of DIR first, each a mosaic of twenty drawn at random and enlarged, as
JPEG of quality 90: about as much to decode as a camera's. `--stages` says how long each stage of one more check takes,
and `--profile` which functions take the time while pictures are looked at, in one thread.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from benchmarks.record import Row, record
from contrastive_cli.core.types import CountProgress
from contrastive_cli.data import inspection
from contrastive_cli.data.looks import looks_of
from contrastive_cli.data.packing import CHUNK
from contrastive_cli.services.curation.advice import advise
from contrastive_cli.services.curation.check import check_pictures
from contrastive_cli.services.curation.check_files import write_check_page, write_check_table
from contrastive_cli.services.curation.pictures import open_pictures
from contrastive_cli.services.dataset_config import DatasetConfig

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
WIDTH, HEIGHT, TILE = 1200, 900, 240
QUALITY = 90
PROFILED = 2000  # pictures
LISTED = 25  # functions
Result = TypeVar("Result")


def main() -> None:
    """Print a line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--count", type=int)
    parser.add_argument("--photos", type=int)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--stages", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--record", action="store_true", help="keep the result for docs/speed.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, work = options.folder.resolve(), Path(name)
        if options.photos:
            folder = make_photos(folder, work / "photos", count=options.photos)
        elif options.count:
            folder = link_first(folder, work / "pictures", count=options.count)
        count = len(files_of(folder))
        taken = [command_seconds(folder, work / f"round{number}") for number in range(options.rounds)]
        wall, used = (statistics.median(each) for each in zip(*taken, strict=True))
        print(f"{count:,} pictures: {wall:.1f} s, {used:.1f} s of processor time, start-up included")
        if options.stages:
            show_stages(folder, work)
        if options.profile:
            show_profile(folder)
        if options.record:
            kind = f"photographs of {WIDTH} x {HEIGHT}" if options.photos else "pictures"
            row = Row(what=f"`clr datasets check` of {count:,} {kind}", clr=wall, unit="s", rounds=options.rounds)
            threads = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))
            record("check-photos" if options.photos else "check", [row], threads=threads)


def files_of(folder: Path) -> list[Path]:
    """The image files below a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def link_first(folder: Path, target: Path, *, count: int) -> Path:
    """A folder with hard links to the first files of another, in the same folders; copies where it cannot be."""
    for path in files_of(folder)[:count]:
        place = target / path.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            place.hardlink_to(path)
        except OSError:
            place.write_bytes(path.read_bytes())
    return target


def make_photos(folder: Path, target: Path, *, count: int) -> Path:
    """Mosaics of the pictures of a folder, in ten classes."""
    sources = files_of(folder)
    if not sources:
        raise SystemExit(f"no pictures in {folder}")

    def make(number: int) -> None:
        random = np.random.default_rng(number)
        photo = Image.new("RGB", (WIDTH, HEIGHT))
        places = [(left, top) for top in range(0, HEIGHT, TILE) for left in range(0, WIDTH, TILE)]
        for place, chosen in zip(places, random.integers(len(sources), size=len(places)), strict=True):
            with Image.open(sources[chosen]) as picture:
                photo.paste(picture.convert("RGB").resize((TILE, TILE), Image.Resampling.BICUBIC), place)
        grain = random.normal(scale=2, size=(HEIGHT, WIDTH, 1))  # of the sensor, which costs a decoder time
        noisy = Image.fromarray(np.clip(np.asarray(photo) + grain, 0, 255).astype(np.uint8))
        noisy.save(target / f"class{number % 10}" / f"{number:05d}.jpg", quality=QUALITY)

    for number in range(10):
        (target / f"class{number}").mkdir(parents=True)
    with ThreadPoolExecutor() as pool:
        list(pool.map(make, range(count)))
    size = sum(path.stat().st_size for path in files_of(target))
    print(f"made {count:,} photographs, {size / count / 1e3:.0f} kB each")
    return target


def command_seconds(folder: Path, work: Path) -> tuple[float, float]:
    """Wall and processor seconds of the command."""
    work.mkdir()
    command = [sys.executable, "-m", "contrastive_cli", "datasets", "check", str(folder)]
    command += ["--out", str(work / "check.html"), "--out", str(work / "check.csv"), "--quiet"]
    before, started = os.times(), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - started, os.times()
    return wall, sum(after[2:4]) - sum(before[2:4])


def show_stages(folder: Path, work: Path) -> None:
    """Seconds of each stage, in this process."""

    @contextmanager
    def counting(description: str) -> Iterator[CountProgress]:
        started = time.perf_counter()
        yield lambda done, total: None
        print(f"  {description}: {time.perf_counter() - started:.1f} s")

    def timed(what: str, work: Callable[[], Result]) -> Result:
        before, started = time.process_time(), time.perf_counter()
        result = work()
        wall, used = time.perf_counter() - started, time.process_time() - before
        print(f"{what}: {wall:.1f} s, {used:.1f} s of processor time")
        return result

    config = DatasetConfig(name="folder", data_dir=folder)
    pictures = timed("finding the files", lambda: open_pictures(config))
    found = timed("the check", lambda: check_pictures(pictures, model=None, near=None, counting=counting))
    advice = timed("the suggestion", lambda: advise(pictures, found.measures))
    timed("the table", lambda: write_check_table(found, work / "stages.csv"))
    timed("the page", lambda: write_check_page(found, advice, work / "stages.html"))


def show_profile(folder: Path) -> None:
    """The functions that take the time of looking."""
    files = files_of(folder)[:PROFILED]

    def look() -> None:
        for start in range(0, len(files), CHUNK):
            part = range(start, min(start + CHUNK, len(files)))
            looks_of([inspection._of_file(files, None, index) for index in part])

    started = time.process_time()
    look()
    print(f"looking at a picture: {1e6 * (time.process_time() - started) / len(files):.0f} us in one thread")
    profile = cProfile.Profile()
    profile.runcall(look)
    pstats.Stats(profile).sort_stats("tottime").print_stats(LISTED)


if __name__ == "__main__":
    main()
