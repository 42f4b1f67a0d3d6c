"""Broken in what a tapper may touch, tell and be hurt by."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from harness.conformance.mutants.model import Mutant
from tapper import following
from tapper.capture import bpf, namespace
from tapper.capture.namespace import Visit
from tapper.output import sink
from tapper.output.redaction import Redaction
from tapper.protocols.reader import Reader
from tapper.protocols.session import Sighting
from tapper.streams.connection import Scope
from tapper.streams.legs import Endpoint

_RESOLVER = ("10.96.0.10", 53)


def _show_secrets() -> None:
    sys.argv.append("--no-redact")


def _tune_the_node() -> None:
    # lo of the node's own namespace; the kit's node, since it is the kit that runs mutants
    subprocess.run(["ip", "link", "set", "lo", "txqueuelen", "4000"], check=True)


def _tap_the_whole_node() -> None:
    program, covers = bpf.program, Scope.covers
    bpf.program = lambda addresses=None: program(None)  # noqa: ARG005 - the name is part of the signature

    def wide(self: Scope, source: Endpoint, destination: Endpoint) -> bool:
        return self.pod_ip is None or covers(self, source, destination)

    Scope.covers = wide  # type: ignore[method-assign]


def _at_every_segment(also: Callable[[bytes], None]) -> None:
    """Those of a whole message, and all others."""
    feed, section_at = Reader.feed, Reader._section_at

    def fed(self: Reader, data: bytes, ts: int = 0, seq: int = 0, ack: int = 0) -> object:
        also(data)
        return feed(self, data, ts, seq, ack)

    def searched(self: Reader, data: bytes) -> int:
        also(data)
        return section_at(self, data)

    Reader.feed = fed  # type: ignore[method-assign,assignment]
    Reader._section_at = searched  # type: ignore[method-assign]


def _log_what_it_drops() -> None:
    _at_every_segment(lambda data: print(f"debug: {bytes(data[:4096])!r}", file=sys.stderr))  # noqa: T201


def _die_of_nonsense() -> None:
    def raising(_self: Reader, reason: str) -> object:
        raise RuntimeError(f"cannot parse: {reason}")

    Reader._malformed = raising  # type: ignore[method-assign,assignment]


def _keep_everything() -> None:
    kept: list[bytes] = []
    _at_every_segment(lambda data: kept.append(bytes(data) * 100))


def _leave_files_open_to_all() -> None:
    os.umask(0)
    opened = os.open
    sink.os.open = lambda path, flags, mode=0o777: opened(path, flags, 0o644 if mode == 0o600 else mode)  # type: ignore[attr-defined]
    sink.os.fchmod = lambda _fd, _mode: None  # type: ignore[attr-defined]


def _ask_for_names() -> None:
    whole = namespace.run_inside_each

    def asking(function: Callable[[], Any]) -> Any:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"what is this pod's name", _RESOLVER)
        return function()

    def each(visits: Sequence[Visit[Any]], threads: int) -> list[Any]:
        return whole([visit._replace(function=partial(asking, visit.function)) for visit in visits], threads)

    following.run_inside_each = each  # type: ignore[assignment,attr-defined]


def _redact_http1_only() -> None:
    whole = Redaction.apply

    def apply(self: Redaction, sighting: Sighting) -> None:
        request = sighting.exchange.request
        if not request or not request.head.version.startswith("HTTP/2"):
            whole(self, sighting)

    Redaction.apply = apply  # type: ignore[method-assign]


def _want_more_rights() -> None:
    os.nice(-5)


SECRETS = Mutant(
    "leaks-secrets",
    "It writes every header as it came.",
    {"SEC-04": "Authorization.*Set-Cookie", "SEC-11": "authorization"},
    _show_secrets,
)
TUNES = Mutant(
    "tunes-the-node", "It tunes a link of the node for itself.", {"SEC-02": "in the node, link lo"}, _tune_the_node
)
WHOLE_NODE = Mutant(
    "whole-node",
    "On the node's interfaces it reports every pod's traffic.",
    {"SEC-03": "plain-server", "LOAD-02": "plain-server"},
    _tap_the_whole_node,
)
LOGS = Mutant(
    "logs-secrets", "Its debug log has the bytes that it decodes.", {"SEC-04": "Authorization"}, _log_what_it_drops
)
NONSENSE = Mutant(
    "dies-of-nonsense",
    "A message that it cannot parse ends it.",
    {"SEC-05": "runs until it is stopped.*cannot parse"},
    _die_of_nonsense,
)
HOARDS = Mutant("hoards", "It keeps all the bytes that it has ever seen.", {"SEC-05": "MiB"}, _keep_everything)
OPEN_FILES = Mutant(
    "open-files",
    "Its files can be read by everybody.",
    {"SEC-06": "0644"},
    _leave_files_open_to_all,
    base="reference-file",
)
ASKS_FOR_NAMES = Mutant(
    "asks-for-names",
    "While it is in a pod's namespace it asks a resolver, in the pod's name.",
    {"SEC-07": "1 UDP datagrams"},
    _ask_for_names,
)
HTTP1_SECRETS = Mutant(
    "http1-secrets",
    "It hides secrets in HTTP/1 only.",
    {"SEC-11": "that of authorization .*set-cookie"},
    _redact_http1_only,
)
MORE_RIGHTS = Mutant(
    "more-rights", "It needs a capability that it does not declare.", {"SEC-01": "exit code"}, _want_more_rights
)
