"""Two hosts on one: network namespaces with a cable between them, each with its own name and address."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

NAMES = ("hosta", "hostb")
SETUP = """
set -e
mount -t tmpfs tmpfs /run
mkdir /run/netns
printf '127.0.0.1 localhost\\n10.77.0.1 hosta\\n10.77.0.2 hostb\\n' > /run/hosts
mount --bind /run/hosts /etc/hosts
ip netns add hosta
ip netns add hostb
ip link add cable netns hosta type veth peer name cable netns hostb
ip -n hosta addr add 10.77.0.1/24 dev cable
ip -n hostb addr add 10.77.0.2/24 dev cable
for host in hosta hostb; do
    ip -n $host link set lo up
    ip -n $host link set cable up
done
echo ready
exec sleep infinity
"""


@dataclass(frozen=True)
class Hosts:
    """The two, as long as the process lives that holds their namespaces."""

    keeper: int

    def command(self, name: str, command: Sequence[str], *, cwd: Path) -> list[str]:
        """The command line that becomes `command` on the host of that name."""
        here = f"hostname {name}; cd {shlex.quote(str(cwd))}; exec {shlex.join(command)}"
        inside = ["nsenter", f"--net=/run/netns/{name}", "unshare", "--uts", "sh", "-c", here]
        return ["nsenter", f"--target={self.keeper}", "--user", "--mount", "--preserve-credentials", *inside]


@contextlib.contextmanager
def two_hosts() -> Iterator[Hosts | str]:
    """Two hosts, or why this system allows none."""
    if missing := [name for name in ("unshare", "nsenter", "ip") if shutil.which(name) is None]:
        yield f"no {missing[0]} here"
        return
    command = ["unshare", "--map-root-user", "--net", "--mount", "sh", "-c", SETUP]
    keeper = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert keeper.stdout is not None
    try:
        if keeper.stdout.readline() == "ready\n":
            yield Hosts(keeper.pid)
        else:
            yield f"no network namespaces here: {keeper.communicate()[1].strip()[-200:]}"
    finally:
        keeper.kill()
        keeper.communicate()
