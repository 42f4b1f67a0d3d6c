"""A tapper of two processes that share the pods out: each is a reference, and the lines of both are written as they
come.

Both would see what passes between two pods on the node, and both would count it: such records are left out. A list of
targets is acknowledged once both processes have acknowledged their share of it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any
from zlib import crc32

REFERENCE = Path(__file__).resolve().parents[4] / "harness" / "adapters" / "shipped" / "reference.py"
PREFIX = "TAPPER_HARNESS_"
OF_EACH_PROCESS = ("hello", "bye")
SHARES = 2
writing = threading.Lock()
acknowledged: Counter[int] = Counter()
"""How many processes have acknowledged a generation of the targets."""


class Share:
    """One process, and the thread that passes its lines on."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._file = Path(os.environ[f"{PREFIX}STATE_DIR"], f"targets-{number}.json")
        pods = self.write_targets()
        self._ready, said = os.pipe()
        contract = {
            "TARGETS_FILE": str(self._file),
            "TARGET_IPS": ",".join(ip for pod in pods for ip in pod["ips"]),
            "OUTPUT": "-",
            "READY_FD": str(said),
        }
        self.process = subprocess.Popen(
            [sys.executable, str(REFERENCE)],
            env=os.environ | {PREFIX + name: value for name, value in contract.items()},
            stdout=subprocess.PIPE,
            pass_fds=[said],
        )
        os.close(said)
        self._thread = threading.Thread(target=self._pass_on)
        self._thread.start()

    def write_targets(self) -> list[dict[str, Any]]:
        """Write the share of the targets into the process's own targets file; returns them."""
        document = json.loads(Path(os.environ[f"{PREFIX}TARGETS_FILE"]).read_text())
        pods = [pod for pod in document["pods"] if crc32(pod["ips"][0].encode()) % SHARES == self._number]
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps(document | {"pods": pods}))
        fresh.replace(self._file)
        return pods

    def update(self) -> None:
        self.write_targets()
        self.process.send_signal(signal.SIGHUP)

    def wait_ready(self) -> None:
        """Return once the process has said that it is ready, or has ended."""
        os.read(self._ready, 1)
        os.close(self._ready)

    def wait(self) -> int:
        self._thread.join()
        return self.process.wait()

    def _pass_on(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            record = json.loads(line)
            if record["type"] == "ack":
                acknowledge(record["generation"])
            elif record["type"] not in OF_EACH_PROCESS and not of_the_node(record):
                write(line)


def of_the_node(record: dict[str, Any]) -> bool:
    """Whether a record is about the node's interfaces, or about all of one process."""
    return record.get("direction") == "node" or (record["type"] == "stat" and record.get("interface") != "lo")


def acknowledge(generation: int) -> None:
    with writing:
        acknowledged[generation] += 1
        complete = acknowledged[generation] == SHARES
    if complete:
        write(json.dumps({"type": "ack", "generation": generation}).encode() + b"\n")


def write(line: bytes) -> None:
    with writing:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()


def main() -> int:
    asked, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)  # whichever thread gets the signal, its number is written there
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    shares = [Share(number) for number in range(SHARES)]
    for share in shares:
        share.wait_ready()
    os.write(int(os.environ[f"{PREFIX}READY_FD"]), b"1")
    while os.read(asked, 1)[0] == signal.SIGHUP:
        for share in shares:
            share.update()
    for share in shares:
        share.process.terminate()
    return max(share.wait() for share in shares)


if __name__ == "__main__":
    sys.exit(main())
