"""Recordings of what crossed a pod's link: what they are asked, whoever made them."""

from __future__ import annotations

from collections.abc import Iterable

from harness.errors import HarnessError
from harness.sandbox import frames
from harness.sandbox.frames import Flow, Frame
from harness.sandbox.wire import WireRecorder


class WireRecording:
    """A `Recording` by a wire of the sandbox."""

    def __init__(self, wire: WireRecorder) -> None:
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
    for flow, data in _streams(recorded).items():
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
    everything = b"\0".join([frame.data for frame in kept] + list(_streams(kept).values()))
    return {marker for marker in markers if marker.encode() in everything}


def _streams(recorded: Iterable[Frame]) -> dict[Flow, bytes]:
    """What each direction carried. A connection may be older than the recording, and begin in it with a keep-alive,
    whose sequence number is one too low (RFC 9293, section 3.8.4): only what carries bytes, or a SYN, says where."""
    segments = (frames.parse_tcp(frame.data) for frame in recorded)
    try:
        return frames.tcp_streams_of(each for each in segments if each is not None and (each.payload or each.syn))
    except ValueError as error:
        raise HarnessError(f"the recording is not whole: {error}") from None
