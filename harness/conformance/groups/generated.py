"""GEN: conversations that a generator drew, with every record compared."""

from __future__ import annotations

from harness.adapters.contract import Feature
from harness.conformance.generated.plan_file import shipped
from harness.conformance.generated.play import play
from harness.conformance.model import Level, case
from harness.conformance.trial import Trial

_SOURCE = "an ordinary conversation: what is required of each exchange is required of any"


@case("GEN-01", Level.MUST, _SOURCE, features={Feature.HTTP1})
def http1(trial: Trial) -> None:
    """A tapper MUST report ordinary HTTP/1 conversations as they were.

    Drawn by rule and shipped as a plan: methods, targets and statuses of many kinds; fields that are repeated, empty,
    long, or hold bytes above ASCII; bodies of sizes around the powers of two, chunked, coded, with trailers, until the
    end of the connection; interim answers, pipelined requests, pauses; connections that end, are reset, or break off
    anywhere. They run side by side, in and out of a pod, and of the pod to itself. Every record is compared with the
    packets on the pod's `lo`.
    """
    _play_all(trial, "http1")


@case("GEN-02", Level.MUST, _SOURCE, features={Feature.HTTP1, Feature.HTTP2})
def http2(trial: Trial) -> None:
    """A tapper that claims HTTP/2 MUST report ordinary HTTP/2 conversations as they were.

    As GEN-01, with up to sixteen streams open at once, whose frames take turns and whose answers come in another order.
    Connections begin with prior knowledge, and by an upgrade from HTTP/1.1.
    """
    _play_all(trial, "http2")


@case("GEN-03", Level.MUST, _SOURCE, features={Feature.HTTP2, Feature.GRPC})
def grpc(trial: Trial) -> None:
    """A tapper that claims gRPC MUST report ordinary gRPC calls as they were.

    As GEN-02: calls with no message, one and many on either side, and with every status.
    """
    _play_all(trial, "grpc")


@case("GEN-04", Level.MUST, _SOURCE, features={Feature.HTTP1, Feature.WEBSOCKET})
def websocket(trial: Trial) -> None:
    """A tapper that claims WebSocket MUST report ordinary WebSocket conversations as they were.

    Text and binary messages of both sides, of sizes around the powers of two, whole and in several frames.
    """
    _play_all(trial, "websocket")


@case("GEN-05", Level.MUST, _SOURCE, features={Feature.HTTP1})
def segments(trial: Trial) -> None:
    """A tapper MUST report ordinary conversations as they were, whatever segments they come in.

    As GEN-01, in segments of a few bytes and of many; on some connections segments are swapped, repeated or lost.
    """
    _play_all(trial, "segments")


@case("GEN-06", Level.MUST, _SOURCE)
def pods(trial: Trial) -> None:
    """A tapper MUST report ordinary conversations of several pods as they were, each of the pod that it was in.

    Five pods are targets at once. Heads are in one segment and connections end in order, so every tapper can be judged
    by them.
    """
    _play_all(trial, "pods")


@case("GEN-07", Level.MUST, _SOURCE, features={Feature.TARGETS_DYNAMIC})
def lives(trial: Trial) -> None:
    """A tapper MUST report ordinary conversations as they were while pods and Envoys come and go.

    While the conversations go on an Envoy ends and another takes its place, pods leave the list of targets and join it,
    and lists come in bursts. Every record has to be true all the time, and no exchange of a pod that stays may be
    missing.
    """
    _play_all(trial, "lives")


@case("GEN-08", Level.MUST, _SOURCE, features={Feature.HTTP1, Feature.HTTP2, Feature.IPV6})
def ipv6(trial: Trial) -> None:
    """A tapper that claims IPv6 MUST report ordinary conversations over it as they were.

    As GEN-01 and GEN-02, over IPv6.
    """
    _play_all(trial, "ipv6")


@case(
    "GEN-09",
    Level.MUST,
    _SOURCE,
    features={
        Feature.HTTP1,
        Feature.HTTP2,
        Feature.GRPC,
        Feature.WEBSOCKET,
        Feature.IPV6,
        Feature.TARGETS_DYNAMIC,
    },
)
def pairs(trial: Trial) -> None:
    """A tapper MUST report ordinary conversations as they were, also if any two claimed features occur together.

    Each protocol in each direction over IPv4 and IPv6, in three pods: long targets, heads and bodies, chunks, trailers
    and repeated fields on each; a connection's 20th exchange; connections that are reset before an answer, and
    connections that are quiet for up to five seconds. Before them an Envoy returns, and a pod leaves the list and joins
    it again.
    """
    _play_all(trial, "pairs")


def _play_all(trial: Trial, theme: str) -> None:
    for plan in shipped(theme):
        play(trial, plan)
