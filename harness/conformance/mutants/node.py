"""What a wrong tapper of the kit's own does on the node: looks for Envoys, keeps namespaces, enters them.

Only inside the node of a case: the kit is what runs mutants.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.conformance.mutants.streams import Record
from harness.sandbox import syscalls

_CLONE_NEWNET = 0x4000_0000  # linux/sched.h
_ETH_P_ALL = 3  # linux/if_ether.h
_INSTANCE_IP = b"INSTANCE_IP="


@dataclass(frozen=True, slots=True)
class EnvoyProcess:
    """A process whose executable is named envoy."""

    pid: int
    netns: int
    """The inode of its network namespace."""
    address: str
    """Its INSTANCE_IP; empty where it has none."""


def procfs() -> Path:
    """The procfs that the kit says to look at."""
    return Path(os.environ["TAPPER_HARNESS_PROCFS"])


def target_addresses() -> set[str]:
    """The addresses of the targets now."""
    document = json.loads(Path(os.environ["TAPPER_HARNESS_TARGETS_FILE"]).read_text())
    return {address for pod in document["pods"] for address in pod["ips"]}


def envoys() -> Iterator[EnvoyProcess]:
    """All that run now. One that ends meanwhile is left out."""
    for folder in procfs().glob("[0-9]*"):
        try:
            if not str((folder / "exe").readlink()).endswith("/envoy"):
                continue
            entries = (folder / "environ").read_bytes().split(b"\0")
            address = next((entry for entry in entries if entry.startswith(_INSTANCE_IP)), _INSTANCE_IP)
            netns = (folder / "ns/net").stat().st_ino
        except OSError:
            continue
        yield EnvoyProcess(int(folder.name), netns, address.removeprefix(_INSTANCE_IP).decode("latin-1"))


def is_running(pid: int) -> bool:
    return (procfs() / str(pid)).exists()


def keep_namespace(pid: int) -> None:
    """Open the file of a process's network namespace and never close it. One that has ended has none."""
    try:
        os.open(procfs() / str(pid) / "ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        pass


def in_namespace(pid: int, function: Callable[[], object], *, stay: Callable[[], bool] = lambda: False) -> None:
    """Call a function on a thread inside a process's network namespace, and wait for it.

    The thread ends, unless `stay` is true afterwards: then it stays in there for as long as this process runs.
    """
    done = threading.Event()

    def enter() -> None:
        try:
            namespace = os.open(procfs() / str(pid) / "ns/net", os.O_RDONLY | os.O_CLOEXEC)
            syscalls.setns(namespace, _CLONE_NEWNET)
            os.close(namespace)
            function()
        except FileNotFoundError:
            pass  # the process has ended, and its namespace with it
        finally:
            done.set()
        if stay():
            threading.Event().wait()

    threading.Thread(target=enter, daemon=True).start()
    done.wait()


def capture_fails(pid: int, *, stay: bool) -> bool:
    """Whether lo cannot be opened in a process's network namespace; with `stay`, the thread that tried stays there."""
    failed: list[bool] = []
    in_namespace(pid, lambda: failed.append(_cannot_open_lo()), stay=lambda: stay and any(failed))
    return any(failed)


def opened_in_pod(record: Record) -> int | None:
    """The process by which a pod's namespace was found, where the record says that it is captured in from now on."""
    return _source(record, "open")


def closed_in_pod(record: Record) -> int | None:
    """The same where the record says that it is not captured in any longer."""
    return _source(record, "closed")


def _source(record: Record, state: str) -> int | None:
    if record["type"] == "source" and record["state"] == state and record["kind"] == "pod":
        pid: int | None = record["pid"]
        return pid
    return None


def _cannot_open_lo() -> bool:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as probe:
        try:
            probe.bind(("lo", _ETH_P_ALL))
        except OSError:
            return True
    return False
