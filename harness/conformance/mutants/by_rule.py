"""Broken as a rule under conditions says (`rules`, `conditions`), and each with the case that has to find it.

Those of GEN are found in generated conversations only: no other case plays what they are wrong about.
"""

from __future__ import annotations

from harness.conformance.mutants import wild
from harness.conformance.mutants.model import Mutant
from harness.conformance.mutants.reasons import LOST, TOO_OFTEN


def _mutant(name: str, rule: str, breaks: dict[str, str], defect: str) -> Mutant:
    """`rule` is the name of a wild mutant, such as `drop+only-ipv6`."""
    return Mutant(name, defect, breaks, wild.mutant(rule).fault)


# -- how often -------------------------------------------------------------------------------------------------------

NO_FAILURES = _mutant(
    "no-failures", "drop+only-failed", {"HTTP-15": LOST}, "It reports no exchange that a server failed in."
)
ANSWERED_ONLY = _mutant(
    "answered-only", "drop+only-unanswered", {"HTTP-18": LOST}, "It reports pairs, and no request without an answer."
)
USUAL_PORTS = _mutant(
    "usual-ports", "drop+only-other-ports", {"CAP-01": LOST}, "It has a list of ports on which HTTP is spoken."
)
TWICE_IN_IPV6 = _mutant(
    "twice-in-ipv6",
    "repeat+only-ipv6",
    {"CAP-10": TOO_OFTEN},
    "It drops the second copy of a frame on lo for IPv4 only.",
)
TWICE_OUTBOUND = _mutant(
    "twice-outbound",
    "repeat+only-outbound",
    {"CAP-02": TOO_OFTEN},
    "It reports either half of a redirected connection as an exchange.",
)
TWICE_CHUNKED = _mutant(
    "twice-chunked",
    "repeat+only-chunked",
    {"HTTP-02": TOO_OFTEN},
    "It reports an exchange again when the last chunk of its answer comes.",
)
TWICE_AFTER_A_HUNDRED = _mutant(
    "twice-after-a-hundred",
    "repeat+after-100",
    {"GEN-06": "one record of it"},
    "After a hundred exchanges it reports each twice.",
)
TWICE_AFTER_AN_ENVOY = _mutant(
    "twice-after-an-envoy",
    "repeat+after-reopening",
    {"GEN-07": "one record of it"},
    "When it has opened a pod's namespace again, it goes on with the old source, too.",
)
SEVENTH_LOST = _mutant(
    "seventh-lost",
    "drop+every-7th",
    {"GEN-05": "a record of it", "GEN-06": "a record of it"},
    "It loses each seventh exchange.",
)
MESSAGES_LOST = _mutant(
    "messages-lost", "message-lost+only-ipv4", {"GEN-04": "message"}, "It loses WebSocket messages over IPv4."
)

# -- which response --------------------------------------------------------------------------------------------------

GIVES_UP_SOON = _mutant(
    "gives-up-soon",
    "no-answer+only-slow",
    {"HTTP-21": "answered with 203"},
    "It waits for an answer for one second.",
)
UNANSWERED_OVER_IPV6 = _mutant(
    "unanswered-over-ipv6",
    "no-answer+only-ipv6+only-sent-bodies",
    {"GEN-08": "its own answer"},
    "Over IPv6 it finds no answer to a request that has a body.",
)

# -- where -----------------------------------------------------------------------------------------------------------

ALWAYS_IN = _mutant(
    "always-in",
    "direction+only-outbound",
    {"CAP-15": "expected GET .* outbound at"},
    "It takes everything on a pod's lo for what comes in.",
)
THIRD_POD_MISTAKEN = _mutant(
    "third-pod-mistaken",
    "pod+only-3rd-pod",
    {"GEN-06": "pod_ip"},
    "It knows two pods, and takes any other for one of them.",
)

# -- what was said ---------------------------------------------------------------------------------------------------

ONE_OF_EACH = _mutant(
    "one-of-each",
    "last-fields+always",
    {"HTTP-14": "x-several"},
    "It keeps header fields in a table by name, the last one of each.",
)
COOKIES_MERGED = _mutant(
    "cookies-merged",
    "joined-fields+always",
    {"GEN-01": "set-cookie"},
    "It joins Set-Cookie fields, in which nobody can tell them apart then (RFC 9110, section 5.3).",
)
HEADERS_MIXED_UP = _mutant(
    "headers-mixed-up",
    "fields-swapped+only-http2+from-5th-of-connection",
    {"GEN-02": "response.headers"},
    "From a connection's fifth stream on it shows the request's fields for the answer's.",
)
NO_TRAILERS = _mutant(
    "no-trailers",
    "trailers+always",
    {"HTTP-09": "grpc-status", "HTTP-19": "the trailer X-Sum"},
    "It is done with an answer when its body is.",
)
TRAILERS_LOST_ON_THE_WAY_OUT = _mutant(
    "trailers-lost-on-the-way-out",
    "trailers+only-ipv6+only-outbound",
    {"GEN-09": "response.trailers"},
    "It says of answers over IPv6 that leave a pod that they had no trailers.",
)
CHUNKS_CUT_IN_SILENCE = _mutant(
    "chunks-cut-in-silence",
    "answer-body+only-chunked",
    {"GEN-01": r"body of \d+ bytes, or said to be cut"},
    "It keeps half of a body that comes in chunks, and does not say so.",
)
CALLS_WITHOUT_STATUS = _mutant(
    "calls-without-status", "grpc-status+only-grpc", {"GEN-03": "grpc"}, "It takes a call that failed for a success."
)
TARGETS_CUT = _mutant("targets-cut", "target+only-with-query", {"GEN-01": "target"}, "It cuts the end of a query off.")
