"""Broken where a mesh is not as in the book."""

from __future__ import annotations

import json
import sys
from typing import Any

from harness.adapters.contract import Feature
from harness.conformance.mutants.model import Mutant
from tapper.following import Follower
from tapper.homes import Homes
from tapper.output.ndjson import Ndjson
from tapper.output.records import Place
from tapper.protocols.session import Sighting
from tapper.streams.connection import HeldSegment
from tapper.streams.connections import Connections
from tapper.streams.packet import SYN
from tapper.tap import Tap


def _say_nothing() -> None:
    def nothing(*_: object) -> None:
        """Not a word."""

    Follower._say_unseen = nothing  # type: ignore[assignment,method-assign]
    Homes.warn = nothing  # type: ignore[assignment,method-assign]


SILENT_ABOUT_TARGETS = Mutant(
    "silent-about-targets",
    "It captures what it finds, and has no word for a target that it does not find.",
    {"EDGE-02": "a word about the target"},
    _say_nothing,
)


def _the_wire_is_inbound() -> None:
    told = Ndjson.sighting

    def sighting(self: Ndjson, place: Place, sighting: Sighting) -> str:
        record = json.loads(told(self, place, sighting))
        return json.dumps(record | ({"direction": "inbound"} if record["direction"] == "wire" else {})) + "\n"

    Ndjson.sighting = sighting  # type: ignore[method-assign]


WIRE_IS_INBOUND = Mutant(
    "wire-is-inbound",
    "It takes plaintext between pods for what a sidecar delivers, and so reports it twice without mTLS.",
    {"EDGE-04": "too often"},
    _the_wire_is_inbound,
)

BELIEVES_ENVIRON = Mutant(
    "believes-environ",
    "It claims to verify identity, warns, and captures all the same.",
    {"EDGE-05": "nothing of what it was not asked for"},
    lambda: None,
    claims=frozenset({Feature.VERIFIED_IDENTITY}),
)


VERIFIES_UNCLAIMED = Mutant(
    "verifies-unclaimed",
    "It refuses what it claims to capture.",
    {"EDGE-05": "requests beside a process named envoy"},
    lambda: sys.argv.append("--verify"),
)


def _refuse_silently() -> None:
    sys.argv.append("--verify")
    _say_nothing()


REFUSES_SILENTLY = Mutant(
    "refuses-silently",
    "It refuses a process that it does not believe, and keeps that to itself.",
    {"EDGE-05": "a word about the process"},
    _refuse_silently,
    claims=frozenset({Feature.VERIFIED_IDENTITY}),
)


def _keep_both_los() -> None:
    def leave_it(_self: Tap) -> None:
        """The node's source goes on seeing lo."""

    Tap._leave_lo_to_pods = leave_it  # type: ignore[assignment,method-assign]


BOTH_LOS = Mutant(
    "both-los",
    "It captures the node's lo as an Envoy's and once more with the node's interfaces.",
    {"EDGE-06": "2 times"},
    _keep_both_los,
)


def _need_a_syn() -> None:
    strange = Connections._strange

    def only_from_the_start(self: Connections[Any], key: bytes, segment: HeldSegment) -> list[Any]:
        if self._waiting.get(key) is None and not segment.flags & SYN:
            return []
        return strange(self, key, segment)

    Connections._strange = only_from_the_start  # type: ignore[method-assign]


NEEDS_A_SYN = Mutant(
    "needs-a-syn",
    "It follows only connections whose beginning it has seen.",
    {"EDGE-07": "too seldom|not at all"},
    _need_a_syn,
)
