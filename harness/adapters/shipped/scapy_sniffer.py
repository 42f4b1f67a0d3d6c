"""The naive tapper: one look at procfs when it starts, a child for each Envoy found, scapy's sniffer in it."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

_CLONE_NEWNET = 0x40000000  # linux/sched.h


def envoys(procfs: Path, targets: set[str]) -> Iterator[tuple[int, str]]:
    """The pids of Envoys, and the target that each names."""
    for entry in procfs.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            exe = os.readlink(entry / "exe")
            environ = (entry / "environ").read_bytes()
        except OSError:
            continue
        names = dict(part.split(b"=", 1) for part in environ.split(b"\0") if b"=" in part)
        address = names.get(b"INSTANCE_IP", b"").decode(errors="replace")
        if exe.endswith("/envoy") and address in targets:
            yield int(entry.name), address


def capture(namespace: Path, file: Path) -> None:
    """Enter a namespace for good, and write the packets on its lo."""
    with namespace.open() as handle:
        if ctypes.CDLL(None, use_errno=True).setns(handle.fileno(), _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
    from scapy.sendrecv import sniff  # noqa: PLC0415 - scapy looks at the interfaces when it is imported
    from scapy.utils import PcapWriter  # noqa: PLC0415

    with PcapWriter(str(file), sync=True) as writer:
        sniff(iface="lo", filter="tcp", store=False, prn=writer.write)


def main() -> int:
    procfs = Path(os.environ["TAPPER_HARNESS_PROCFS"])
    output = Path(os.environ["TAPPER_HARNESS_OUTPUT"])
    pods = json.loads(Path(os.environ["TAPPER_HARNESS_TARGETS_FILE"]).read_text())["pods"]
    targets = {str(ip_address(ip)) for pod in pods for ip in pod["ips"]}
    children = []
    for pid, address in envoys(procfs, targets):
        child = os.fork()
        if child == 0:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
            capture(procfs / str(pid) / "ns" / "net", output / f"{address}@{pid}.pcap")
            os._exit(0)
        children.append(child)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    for child in children:
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
    return 0


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    sys.exit(main())
