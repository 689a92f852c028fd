"""Two hosts that meet by torchrun's c10d rendezvous: the bits of one process, whatever is killed, and SLURM's lines."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from clr_process import REPOSITORY, Clr, clr_environment
from distributed.hosts import NAMES, Hosts, two_hosts
from distributed.launched_runs import PATIENCE, SHORT, assert_same, losses_of, state_of, wait_for_step, workers_of

pytestmark = pytest.mark.slow
SETTINGS = [*SHORT, "--epochs", "8", "--set", "train.save_every=0.2"]
OTHERS_GO = 20.0  # seconds


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with two_hosts() as made:
        if isinstance(made, str):
            pytest.skip(made)
        yield made


@pytest.fixture(scope="module")
def one_process(clr: Clr, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    result = clr("pretrain", *SETTINGS, "--out", "run", cwd=folder)
    assert result.code == 0, result.err
    return folder / "run"


@pytest.fixture
def environment(clr_cache: Path) -> dict[str, str]:
    """Without the guard against the network: hosts have one, and no way out of it."""
    return {**clr_environment(clr_cache), "PYTHONPATH": str(REPOSITORY)}


def agent(*, endpoint: str, restarts: int) -> list[str]:
    """The command of each host, but for what it does."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    launcher += ["--max-restarts", str(restarts), "--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint]
    return [*launcher, "-m", "contrastive_cli"]


def started(commands: list[list[str]], environment: dict[str, str], cwd: Path) -> list[subprocess.Popen[str]]:
    """One process for each; what they say goes to files, which nobody has to empty."""
    processes = []
    for number, command in enumerate(commands):
        with (cwd / f"out-{number}").open("w") as out, (cwd / f"err-{number}").open("w") as err:
            processes.append(subprocess.Popen(command, cwd=cwd, env=environment, stdout=out, stderr=err, text=True))
    return processes


def said(cwd: Path, stream: str) -> str:
    """By both hosts."""
    return "".join((cwd / f"{stream}-{number}").read_text() for number in range(2))


def ended(processes: list[subprocess.Popen[str]]) -> list[int]:
    """Their exit codes; none is left behind."""
    try:
        return [process.wait(PATIENCE) for process in processes]
    finally:
        for process in processes:
            process.kill()


@pytest.mark.parametrize("killed", NAMES)
def test_two_hosts__a_killed_process_changes_nothing(
    killed: str, hosts: Hosts, one_process: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    command = [*agent(endpoint="hosta:29400", restarts=3), "pretrain", *SETTINGS, "--out", "cut"]
    processes = started([hosts.command(name, command, cwd=tmp_path) for name in NAMES], environment, tmp_path)
    wait_for_step(tmp_path / "cut", 10)
    (worker,) = workers_of(processes[NAMES.index(killed)].pid).values()
    os.kill(worker, signal.SIGKILL)
    assert ended(processes) == [0, 0], said(tmp_path, "err")
    assert said(tmp_path, "err").count("resuming") == 1
    assert said(tmp_path, "out").splitlines() == [str(tmp_path / "cut")]
    assert_same(state_of(tmp_path / "cut"), state_of(one_process))
    assert losses_of(tmp_path / "cut") == losses_of(one_process)


def test_two_agents_of_one_host__give_the_bits_of_one_process(
    one_process: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    command = [*agent(endpoint="localhost:29477", restarts=0), "pretrain", *SETTINGS, "--out", "run"]
    assert ended(started([command, command], environment, tmp_path)) == [0, 0], said(tmp_path, "err")
    assert_same(state_of(tmp_path / "run"), state_of(one_process))


def test_two_hosts__a_host_that_goes_for_good_leaves_a_run_to_go_on_with(
    hosts: Hosts, one_process: Path, environment: dict[str, str], clr: Clr, tmp_path: Path
) -> None:
    command = [*agent(endpoint="hosta:29400", restarts=0), "pretrain", *SETTINGS, "--out", "run"]
    processes = started([hosts.command(name, command, cwd=tmp_path) for name in NAMES], environment, tmp_path)
    wait_for_step(tmp_path / "run", 10)
    began = time.monotonic()
    for process in (*workers_of(processes[1].pid).values(), processes[1].pid):
        os.kill(process, signal.SIGKILL)
    codes = ended(processes)
    assert time.monotonic() - began < OTHERS_GO
    assert codes[0] == 1
    assert said(tmp_path, "err").count("error: process 0 of 2 has lost the others") == 1
    result = clr("pretrain", "--resume", "run", cwd=tmp_path)
    assert result.code == 0, result.err
    assert_same(state_of(tmp_path / "run"), state_of(one_process))


SRUN = """#!/bin/bash
# As SLURM's: the command on every host, signals to all of them, and the worst exit code.
for host in hosta hostb; do
    "$(dirname "$0")/on-$host" "$@" & tasks+=($!)
done
trap 'kill -TERM "${tasks[@]}"' TERM
code=0
for task in "${tasks[@]}"; do
    until wait "$task"; status=$?; [ $status -eq 0 ] || ! kill -0 "$task" 2> /dev/null; do :; done
    [ $status -eq 0 ] || code=$status
done
exit $code
"""


def test_slurm__the_lines_save_at_its_signal_and_go_on_when_queued_again(
    hosts: Hosts, one_process: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    page = (REPOSITORY / "docs" / "scale.md").read_text()
    (lines,) = re.findall(r"^```text\n(#SBATCH.*?)^```$", page, re.MULTILINE | re.DOTALL)
    script = lines.replace("--nproc-per-node 8", "--nproc-per-node 1")
    assert script != lines
    (tmp_path / "job.sh").write_text(script)
    (tmp_path / "imagenet.yaml").write_text(yaml.safe_dump(settings_tree()))
    tools = {
        "srun": SRUN,
        "scontrol": "#!/bin/sh\nprintf 'hosta\\nhostb\\n'\n",
        "torchrun": f'#!/bin/sh\nexec {sys.executable} -m torch.distributed.run "$@"\n',
    }
    for name in NAMES:
        entered = " ".join(hosts.command(name, [], cwd=tmp_path)[:-2])
        there = f'hostname {name}; cd {tmp_path}; exec "$@"'
        tools[f"on-{name}"] = f"#!/bin/bash\nexec {entered} -c '{there}' _ \"$@\"\n"
    (tmp_path / "bin").mkdir()
    for name, text in tools.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    path = f"{tmp_path / 'bin'}{os.pathsep}{environment['PATH']}"
    environment = {**environment, "PATH": path}

    job = subprocess.Popen(["bash", "job.sh"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    wait_for_step(tmp_path / "runs" / "big", 10)
    (srun,) = children_of(job.pid)
    os.kill(srun, signal.SIGTERM)  # SLURM signals the steps of a job, not its shell
    _, err = job.communicate(timeout=PATIENCE)
    assert job.returncode != 0
    assert err.count("stopped at step") == 1, err
    manifest = json.loads((tmp_path / "runs" / "big" / "manifest.json").read_text())
    assert manifest["status"] == "interrupted"

    again = subprocess.run(
        ["bash", "job.sh"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE
    )
    assert again.returncode == 0, again.stderr
    assert_same(state_of(tmp_path / "runs" / "big"), state_of(one_process))


def settings_tree() -> dict[str, object]:
    """`SETTINGS` as a configuration file says them."""
    return {
        "dataset": {"size": 8},
        "encoder": {"width": 4, "embedding_dim": 32},
        "device": "cpu",
        "train": {
            "precision": "fp32",
            "batch_size": 96,
            "micro_batch_size": 16,
            "reduction": "ordered",
            "evaluations": 1,
            "epochs": 8,
            "save_every": "0.2",
        },
    }


def children_of(process: int) -> list[int]:
    """The processes that this one has started."""
    listed = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(child) for child in listed.split()]
