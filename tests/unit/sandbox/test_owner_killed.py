"""kill -9 the owner, and nothing is left: the promise that makes the harness safe to run on a machine one works on."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from harness.waiting import DEFAULT_TIMEOUT, wait_until

# what the owner says before it is killed: every process of the node, by this machine's numbers, the namespaces, and
# whoever forked the node's keeper
OWNER = """
import json, os, sys, time
from pathlib import Path
from harness.mesh.mesh import Mesh
from harness.sandbox.node import Node
from harness.sandbox.recorder import on_link

node = Node()
mesh = Mesh(node)
client, server = mesh.pod("client"), mesh.pod("server")
mesh.inject(client, server)
mesh.send(client, server, 3)
wire = on_link(server.pod)
stubborn = server.pod.spawn(["sh", "-c", "trap '' TERM INT HUP; setsid sleep 1000 & while :; do sleep 1000; done"])
host_pids = [node.host_pid, *(process.host_pid for process in node._processes if process.running)]
keeper = Path(f"/proc/{node._world.keeper.pid}/stat").read_text()
host_pids += [node._world.keeper.pid, int(keeper.rpartition(")")[2].split()[1])]
print(json.dumps({"pids": host_pids, "inodes": [client.pod.netns_inode, server.pod.netns_inode]}), flush=True)
time.sleep(1000)
"""


def machine() -> tuple[object, ...]:
    return socket.if_nameindex(), Path("/proc/self/mountinfo").read_text(), Path("/proc/net/route").read_text()


def processes_in(inodes: set[int]) -> list[str]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.readlink(f"/proc/{name}/ns/net") in {f"net:[{inode}]" for inode in inodes}:
                    found.append(name)
            except OSError:
                continue
    return found


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_outlives_the_owner(signum: int) -> None:
    before = machine()
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    with owner.stdout:
        told = json.loads(owner.stdout.readline())
        pidfds = [os.pidfd_open(pid) for pid in told["pids"]]
        assert len(pidfds) >= 10, "init, two pauses, two applications, two Envoys, one shell; keeper, fork server"
        wait_until(lambda: len(processes_in(set(told["inodes"]))) >= 8, "all processes of the pods to be there")
        owner.send_signal(signum)
        assert owner.wait() == -signum
    for pid, pidfd in zip(told["pids"], pidfds, strict=True):
        assert select.select([pidfd], [], [], DEFAULT_TIMEOUT)[0], f"process {pid} outlived its owner"
        os.close(pidfd)
    wait_until(lambda: not processes_in(set(told["inodes"])), "the pods' last processes to end")
    assert machine() == before


def test_not_even_a_stopped_init_outlives_the_owner() -> None:
    """An init that cannot notice anything is the keeper's affair, and the kernel's."""
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        told = json.loads(owner.stdout.readline())
        pidfds = [os.pidfd_open(pid) for pid in told["pids"]]
        os.kill(told["pids"][0], signal.SIGSTOP)
        owner.kill()
    for pid, pidfd in zip(told["pids"], pidfds, strict=True):
        assert select.select([pidfd], [], [], DEFAULT_TIMEOUT)[0], f"process {pid} outlived its owner"
        os.close(pidfd)
    wait_until(lambda: not processes_in(set(told["inodes"])), "the pods' last processes to end")
