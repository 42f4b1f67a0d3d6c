"""`ClusterRecording`: the frames that `harness.worlds.programs.sniff` records on a node of a cluster."""

from __future__ import annotations

import base64
import json

from harness.errors import HarnessError
from harness.sandbox.frames import Frame
from harness.sandbox.recorder import Recorded
from harness.worlds.world import Program


def _parse(output: str) -> list[Frame]:
    """The frames in the output of the program. Raises HarnessError if the output or the recording is not whole."""
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


class ClusterRecording(Recorded):
    """The recording of a program that runs on a node. Asking for its frames ends it."""

    def __init__(self, program: Program, name: str) -> None:
        self.name = name
        self._program = program
        self._frames: list[Frame] | None = None

    @property
    def frames(self) -> list[Frame]:
        if self._frames is None:
            self._frames = _parse(self._program.stop())
        return self._frames

    def require_whole(self) -> None:
        """`frames` raises if the recording is not whole."""

    def end(self) -> None:
        """End the program; a recording that nobody asked for is lost."""
        if self._frames is None:
            self._program.stop()
