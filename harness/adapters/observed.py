"""The output of a tapper under test in one form, whatever its format. Plain data and a protocol, no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

_MOST_SHOWN = 300
MARKER = re.compile(rb"nonce-[0-9a-f]{32}")


def in_words(text: str, most: int = _MOST_SHOWN) -> str:
    """Text of a tapper, made fit for a sentence: printable, in one line, and bounded."""
    shown = text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"
    return "".join(character if character.isprintable() else f"\\x{ord(character):02x}" for character in shown)


@dataclass(frozen=True, slots=True)
class ReportedMessage:
    """A request or a response, as far as the tapper reports it."""

    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    truncated: bool = False
    """Whether the tapper says that the body is not whole."""
    trailers: tuple[tuple[str, str], ...] = ()
    gives_body: bool = True
    """True if the record has the body. A tapper may leave bodies out of its records."""
    gives_headers: bool = False
    """True if the record has the list of header fields. An empty list says that the message had none."""
    gives_trailers: bool = False
    """The same of trailer fields."""

    def header(self, name: str) -> list[str]:
        """All values of a header, in order; names are compared without regard to case (RFC 9110, section 5.1)."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


@dataclass(frozen=True, slots=True)
class ReportedExchange:
    """One exchange that the tapper reported, or that the kit found in the packets it captured.

    Addresses are `10.244.0.3:8080` and `[fd00::3]:8080`; None is a field that the tapper left out.
    """

    target: str | None
    method: str | None = None
    status: int | None = None
    pod_ip: str | None = None
    direction: str | None = None
    """`inbound` (from a sidecar to its application), `outbound`, `local`, or `node` (seen outside of pods)."""
    src: str | None = None
    dst: str | None = None
    time: float | None = None
    """Seconds since 1970, of the request's first byte."""
    request: ReportedMessage | None = None
    response: ReportedMessage | None = None
    mtls: bool | None = None
    """Whether the exchange crossed the pod's network interface in TLS; None where the tapper does not say."""
    record: Mapping[str, Any] = field(default_factory=dict)
    """The record it was read from, for evidence and for fields that only some tappers have."""

    def __str__(self) -> str:
        pod = self.pod_ip or self.record.get("interface") or "an unnamed pod"
        where = f" {self.direction or ''} at {pod}".replace("  ", " ")
        return in_words(f"{self.method} {self.target} -> {self.status}, {self.src} > {self.dst},{where}")


class Markers:
    """Finds the kit's markers (`nonce-` and 32 hexadecimal digits) in bytes that come in pieces, cut anywhere."""

    _LONGEST = 38

    def __init__(self) -> None:
        self.found: set[str] = set()
        self._rest = b""

    def feed(self, data: bytes) -> None:
        joined = self._rest + data
        self.found.update(marker.decode() for marker in MARKER.findall(joined))
        self._rest = joined[-self._LONGEST :]


class Output(Protocol):
    """A tapper's output while it grows. `feed` and the others may be called from different threads."""

    problems: list[str]
    """Violations of the format that the adapter promises, in sentences."""

    def feed(self, data: bytes) -> None:
        """Add the next piece of standard output, cut anywhere."""

    def refresh(self) -> None:
        """Read what the tapper has added to its files."""

    def finish(self) -> None:
        """The output is complete: an incomplete record now is a problem."""

    def mentioned(self) -> set[str]:
        """The kit's markers that are anywhere in it so far; cheap, for use while waiting."""

    def seen(self) -> list[ReportedExchange]:
        """Every exchange so far."""

    def records(self, kind: str) -> list[Mapping[str, Any]]:
        """The records of a type; a capture of packets has none."""

    def others(self) -> list[Mapping[str, Any]]:
        """The records of every type but `http`, in order; a capture of packets has none."""

    def everything(self) -> Iterable[bytes]:
        """All that was written, raw, and with everything that is encoded in it decoded, so that no secret can hide."""
