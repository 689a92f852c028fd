"""The run directory: one folder per training, whose manifest names every file that is complete.

Every file is written atomically and entered in `manifest.json` last, so an entry means that the file is whole.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from contrastive_cli.core.config import Config, Tree, dump_yaml, read_preset
from contrastive_cli.core.containment import refuse_what_leads_out
from contrastive_cli.core.errors import RunError, UsageError
from contrastive_cli.core.files import cannot_write, is_temporary, sha256_of, sweep_temporaries, write_atomically
from contrastive_cli.core.manifest import Artifact, Manifest

RUNS = Path("runs")
LOCK_FILE = "run.lock"
OF_RECORD = {"config.yaml": "configuration", "metrics.jsonl": "metrics", "bad_files.csv": "bad files"}
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class Run:
    """A run directory on disk; everything is read from it afresh."""

    path: Path

    @property
    def name(self) -> str:
        """The name of the directory."""
        return self.path.name

    def manifest(self) -> Manifest:
        """Read the manifest.

        Raises:
            RunError: If it is missing or is not a manifest.
        """
        file = self.path / "manifest.json"
        try:
            if file.exists() and not file.is_file():
                raise RunError(f"{self.path} holds no readable manifest.json: it is no file", path=file)
            return Manifest.model_validate_json(file.read_bytes())
        except OSError as error:
            raise RunError(f"{self.path} holds no readable manifest.json: {error.strerror}", path=file) from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))[:100]
            raise RunError(
                f"{file} is not a manifest of clr: {where} {first['msg'][:200]}",
                hint="it was changed by something else: bring it back, or start the run anew",
                path=file,
            ) from None

    def write_manifest(self, manifest: Manifest) -> None:
        """Replace the manifest, atomically."""
        write_atomically(self.path / "manifest.json", (manifest.model_dump_json(indent=2) + "\n").encode())

    def update(self, **changes: Any) -> Manifest:
        """Replace some fields of the manifest and return the new one.

        Files that change while a run is trained have an entry while it is not.
        """
        manifest = self.manifest().model_copy(update=changes)
        if "status" in changes:
            entries = {} if manifest.status == "running" else self._entries_of_record()
            others = {key: value for key, value in manifest.artifacts.items() if key not in OF_RECORD}
            manifest = manifest.model_copy(update={"artifacts": {**others, **entries}})
        self.write_manifest(manifest)
        return manifest

    def _entries_of_record(self) -> dict[str, Artifact]:
        found = {name: self.path / name for name in OF_RECORD if (self.path / name).is_file()}
        return {
            name: Artifact(kind=OF_RECORD[name], bytes=file.stat().st_size, sha256=sha256_of(file))
            for name, file in found.items()
        }

    def is_empty(self) -> bool:
        """Whether nothing is there, or only what a start that was killed or has just begun leaves."""
        if not self.path.is_dir():
            return not self.path.exists()
        names = (file.name for file in self.path.iterdir())
        return all(name == LOCK_FILE or is_temporary(name) for name in names)

    def config(self) -> Tree:
        """The resolved configuration the run was started with."""
        file = self.path / "config.yaml"
        if file.exists() and not file.is_file():  # reading a FIFO would wait for ever
            raise RunError(f"{file} is no file", path=file)
        return read_preset(str(file))

    def write_config(self, config: Config) -> None:
        """Write the resolved configuration; `clr pretrain --config` it to repeat the run."""
        write_atomically(self.path / "config.yaml", dump_yaml(config.model_dump(mode="json")).encode())

    def add_artifact(self, file: Path, *, kind: str, step: int | None = None, sha256: str | None = None) -> Artifact:
        """Enter a complete file in the manifest."""
        artifact = Artifact(kind=kind, bytes=file.stat().st_size, sha256=sha256 or sha256_of(file), step=step)
        manifest = self.manifest()
        key = file.relative_to(self.path).as_posix()
        self.write_manifest(manifest.model_copy(update={"artifacts": {**manifest.artifacts, key: artifact}}))
        return artifact

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for one process and sweep what a killed one left.

        Raises:
            RunError: At once, if another process holds it, or if something below it leads out of it.
        """
        from filelock import FileLock, Timeout

        refuse_what_leads_out(self.path)
        lock = FileLock(self.path / LOCK_FILE, timeout=0.2)
        try:
            lock.acquire()
        except Timeout:
            raise RunError(
                f"run {self.path} is in use by another process", hint="wait, or choose another --out"
            ) from None
        except OSError as error:
            raise cannot_write(self.path, error) from error
        try:
            sweep_temporaries(self.path)
            yield
        finally:
            lock.release()


def free_run_path(out: Path | None, *, default_name: str, overwrite: bool) -> Path:
    """Where a new run can be made: `out`, or `runs/<default_name>`; nothing is written yet.

    Raises:
        RunError: If something is there already and is not to be overwritten, or the place is not writable.
        UsageError: If the name has other characters than letters, digits, `.`, `_` and `-`.
    """
    path = RUNS / default_name if out is None else out
    if not NAME_PATTERN.fullmatch(path.name):
        raise UsageError(f"run name {path.name!r} has other characters than letters, digits, '.', '_' and '-'")
    if ".." in path.parts:
        raise UsageError(f"run directory {str(path)!r} goes up by '..'", hint="give the directory without '..'")
    try:
        if not Run(path).is_empty():
            if not overwrite:
                raise run_exists(path)
            _refuse_foreign(path)
        parent = next(folder for folder in path.absolute().parents if folder.exists())
    except OSError as error:
        raise cannot_write(path, error) from error
    if not os.access(parent, os.W_OK | os.X_OK):
        raise RunError(f"cannot write {path}: {parent} is not writable", hint="choose another --out", path=path)
    return path


def create_run(path: Path, *, overwrite: bool) -> tuple[Run, Path | None]:
    """Make the empty run directory; write into it under its lock, and only if it is empty still.

    Returns:
        The run, and the new place of the one that was there.

    Raises:
        RunError: If it holds anything (`overwrite` renames the old one away, unless it is in use) or cannot be made.
    """
    moved = None
    try:
        if not Run(path).is_empty():
            if not overwrite:
                raise run_exists(path)
            _refuse_foreign(path)
            moved = _free_name(path)
            # A run in training would go on writing by name, into its successor.
            with Run(path).locked() if (path / LOCK_FILE).exists() else contextlib.nullcontext():
                path.rename(moved)
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error
    return Run(path), moved


def create_named_run(path: Path) -> Run:
    """Make a new run directory at `path`, or beside it with a number where another start was faster.

    Raises:
        RunError: If it cannot be made.
    """
    taken = path
    for number in range(2, 10_000):
        try:
            taken.mkdir(parents=True)
        except FileExistsError:
            taken = path.with_name(f"{path.name}-{number}")
        except OSError as error:
            raise cannot_write(path, error) from error
        else:
            return Run(taken)
    raise run_exists(path)


def run_exists(path: Path) -> RunError:
    """Something is in the place of a new run."""
    if not _is_run(path):
        return RunError(f"{path} exists, and is no run", hint="choose another --out", path=path)
    return RunError(f"run {path} exists", hint="pass --resume, --overwrite or another --out", path=path)


def _is_run(path: Path) -> bool:
    """Whether clr made the directory, if only its beginning."""
    return any((path / name).is_file() for name in ("manifest.json", "config.yaml", LOCK_FILE))


def _refuse_foreign(path: Path) -> None:
    if not _is_run(path):
        raise RunError(f"{path} is no run, so --overwrite leaves it as it is", hint="choose another --out", path=path)


def find_run(name_or_path: str | None) -> Run:
    """The run by its path, its name under `runs/` or the path of a file in it; without one, the newest finished run.

    Raises:
        RunError: If there is none, or something below it leads out of it.
    """
    if name_or_path is None:
        runs = list_runs()
        finished = [run for run in runs if run.manifest().status == "finished"]
        if not finished:
            others = f" (but {len(runs)} in another state, which --run takes)" if runs else ""
            message = f"there is no finished run under runs/ of {Path.cwd()}{others}"
            raise RunError(message, hint="start one with `clr pretrain`, or pass --run")
        return max(finished, key=lambda run: run.manifest().started)
    given = Path(name_or_path)
    for path in (given, RUNS / name_or_path, *(given.absolute().parents[:2] if given.is_file() else ())):
        if (path / "manifest.json").is_file():
            refuse_what_leads_out(path)
            return Run(path)
    places = f"{given.absolute()} nor {(RUNS / name_or_path).absolute()}"
    message = f"no run at {name_or_path!r}: neither {places} holds a manifest.json"
    raise RunError(message, hint="give the run's directory; `clr runs FOLDER` lists those of a folder", path=given)


def list_runs(root: Path = RUNS) -> list[Run]:
    """Every directory below `root` with a readable manifest, oldest first."""
    return read_runs(root)[0]


def read_runs(root: Path) -> tuple[list[Run], list[RunError]]:
    """Every directory below `root` with a readable manifest, oldest first, and what is wrong with the others."""
    runs, damaged = [], []
    for file in sorted(root.glob("*/manifest.json")):
        run = Run(file.parent)
        try:
            refuse_what_leads_out(run.path)
            runs.append((run.manifest().started, run))
        except RunError as error:
            damaged.append(error)
    return [run for _, run in sorted(runs, key=lambda pair: pair[0])], damaged


def default_run_name(*, method: str, dataset: str, seed: int) -> str:
    """`simclr-cifar10-20261121-120000-s0`, in UTC; a suffix keeps two starts in one second apart."""
    name = f"{method}-{dataset}-{datetime.now(UTC):%Y%m%d-%H%M%S}-s{seed}"
    return name if not (RUNS / name).exists() else _free_name(RUNS / name).name


def now() -> str:
    """The time in UTC, for manifests."""
    return datetime.now(UTC).isoformat()


def _free_name(path: Path) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    candidates = (path.with_name(f"{path.name}.{stamp}.{os.getpid()}.{attempt}") for attempt in range(1000))
    return next(candidate for candidate in candidates if not candidate.exists())
