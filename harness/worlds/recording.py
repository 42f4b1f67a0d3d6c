"""Recordings of what crossed a pod's link: what they are asked, whoever made them."""

from __future__ import annotations

from collections.abc import Iterable

from harness.errors import HarnessError
from harness.sandbox import frames
from harness.sandbox.frames import Frame
from harness.sandbox.wire import Wire


class WireRecording:
    """A `Recording` by a wire of the sandbox."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def found(self, markers: Iterable[str]) -> set[str]:
        return self._wire.found(markers)

    def carried(self, port: int) -> tuple[int, int]:
        recorded = self._wire.frames
        self._wire.require_whole()
        return carried(recorded, port)


def carried(recorded: Iterable[Frame], port: int) -> tuple[int, int]:
    """Bytes of streams to and from a TCP port: of those that are TLS from beginning to end, and of the others."""
    tls = other = 0
    for flow, data in frames.tcp_streams(recorded).items():
        if port not in (flow.sport, flow.dport):
            continue
        if frames.is_tls(data):
            tls += len(data)
        else:
            other += len(data)
    return tls, other


def found(recorded: Iterable[Frame], markers: Iterable[str]) -> set[str]:
    """Which markers are in a frame, or across the frames of a stream. Raises HarnessError where bytes are missing."""
    kept = list(recorded)
    try:
        streams = frames.tcp_streams(kept)
    except ValueError as error:
        raise HarnessError(f"the recording is not whole: {error}") from None
    everything = b"\0".join([frame.data for frame in kept] + list(streams.values()))
    return {marker for marker in markers if marker.encode() in everything}
