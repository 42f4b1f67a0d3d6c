"""A tapper of one process for each pod: it runs a reference for each target, and writes the lines of all as they come.

A target that is added gets a process, and one that is removed loses its own. The tapper acknowledges a list of targets
once each process runs and has said that it is ready.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

REFERENCE = Path(__file__).resolve().parents[4] / "harness" / "adapters" / "shipped" / "reference.py"
PREFIX = "TAPPER_HARNESS_"
OWN = {b"hello", b"ack", b"bye"}
"""Types of records that each process writes about itself."""
writing = threading.Lock()


@dataclass
class Tapper:
    """The process of one pod, and the thread that passes its lines on."""

    process: subprocess.Popen[bytes]
    thread: threading.Thread

    def stop(self) -> None:
        self.process.terminate()
        self.thread.join()
        self.process.wait()


def write(line: bytes) -> None:
    with writing:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()


def begin(key: str, pod: dict[str, Any], generation: int) -> Tapper:
    """Start the process of a pod, and wait until it has said that it is ready or has ended."""
    folder = Path(os.environ[f"{PREFIX}STATE_DIR"], key.replace(":", "-"))
    folder.mkdir(exist_ok=True)
    targets = folder / "targets.json"
    targets.write_text(json.dumps({"generation": generation, "pods": [pod]}))
    ready, said = os.pipe()
    contract = {"TARGETS_FILE": str(targets), "TARGET_IPS": ",".join(pod["ips"]), "OUTPUT": "-", "READY_FD": str(said)}
    environ = os.environ | {PREFIX + name: value for name, value in contract.items()}
    process = subprocess.Popen(
        [sys.executable, str(REFERENCE)], env=environ, stdout=subprocess.PIPE, pass_fds=[said], start_new_session=True
    )
    os.close(said)
    thread = threading.Thread(target=pass_on, args=(process,))
    thread.start()
    select.select([ready], [], [])
    os.close(ready)
    return Tapper(process, thread)


def pass_on(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["type"].encode() not in OWN:
            write(line)


def follow(tappers: dict[str, Tapper]) -> None:
    """Bring the processes into line with the targets file."""
    document = json.loads(Path(os.environ[f"{PREFIX}TARGETS_FILE"]).read_text())
    wanted = {",".join(pod["ips"]): pod for pod in document["pods"]}
    for key in tappers.keys() - wanted.keys():
        tappers.pop(key).stop()
    for key in wanted.keys() - tappers.keys():
        tappers[key] = begin(key, wanted[key], document["generation"])
    write(json.dumps({"type": "ack", "generation": document["generation"]}).encode() + b"\n")


def main() -> None:
    asked: SimpleQueue[int] = SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda caught, _: asked.put(caught))
    tappers: dict[str, Tapper] = {}
    follow(tappers)
    os.write(int(os.environ[f"{PREFIX}READY_FD"]), b"1")
    while asked.get() == signal.SIGHUP:
        follow(tappers)
    for tapper in tappers.values():
        tapper.process.terminate()
    for tapper in tappers.values():
        tapper.stop()


if __name__ == "__main__":
    main()
