"""`ClusterRecording`: what `harness.worlds.programs.sniff` has recorded on a node."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from pathlib import Path

from harness.errors import HarnessError
from harness.sandbox import pcap
from harness.sandbox.frames import Frame
from harness.worlds import recording
from harness.worlds.world import Program


def parse(output: str) -> list[Frame]:
    """The frames of the program's output. Raises HarnessError when it is not whole."""
    frames: list[Frame] = []
    dropped: int | None = None
    for line in output.splitlines():
        if line.startswith("["):
            at, data = json.loads(line)
            frames.append(Frame(at, base64.b64decode(data)))
        elif line.startswith("{"):
            dropped = json.loads(line)["dropped"]
    if dropped != 0:
        why = "its end is missing" if dropped is None else f"the kernel dropped {dropped} frames"
        raise HarnessError(f"the recording of a node is not whole: {why}")
    return frames


class ClusterRecording:
    """A `Recording`."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._frames: list[Frame] | None = None

    def frames(self) -> list[Frame]:
        if self._frames is None:
            self._frames = parse(self._program.stop())
        return self._frames

    def end(self) -> None:
        """Record no longer, whoever asks for it or does not."""
        if self._frames is None:
            self._program.stop()

    def found(self, markers: Iterable[str]) -> set[str]:
        return recording.found(self.frames(), markers)

    def carried(self, port: int) -> tuple[int, int]:
        return recording.carried(self.frames(), port)

    def save(self, path: Path) -> None:
        """Write it as a pcap file (link type Ethernet, nanoseconds)."""
        pcap.write(path, self.frames())
