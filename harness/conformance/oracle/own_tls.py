"""Records of what an application encrypted itself, held against the packets, which show the connection alone.

So a record cannot be compared as a whole. But it has to be of a TLS connection that there was, with that connection's
ends, and of a pod that has one of them. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.adapters.contract import Feature
from harness.adapters.observed import ReportedExchange, in_words
from harness.conformance.oracle.compare import same_address, same_end
from harness.conformance.oracle.expectation import PodDecoded
from harness.conformance.oracle.model import Address, Difference, DifferenceKind

FIELD = "plaintext"
"""The member of a record that says in which library the tapper read it."""
_HANDSHAKE = b"\x16\x03"
"""The content type and the version with which every TLS connection begins (RFC 8446, section 5.1)."""


def parted(
    seen: Sequence[ReportedExchange], claims: frozenset[Feature]
) -> tuple[list[ReportedExchange], list[ReportedExchange]]:
    """The records of what applications encrypted themselves, if the tapper claims to read it, and all others."""
    if Feature.TLS not in claims:
        return [], list(seen)
    theirs = [each for each in seen if each.record.get(FIELD) is not None]
    return theirs, [each for each in seen if each.record.get(FIELD) is None]


def differences(pods: Sequence[PodDecoded], seen: Sequence[ReportedExchange]) -> Iterator[Difference]:
    """The records that no TLS connection explains."""
    ends = {
        (each.connection.client, server)
        for pod in pods
        for each in (*pod.decoded, *pod.outside)
        if each.connection.requests.data.startswith(_HANDSHAKE)
        for server in (each.connection.server, each.connection.replies_from)
    }
    addresses = [pod.truth.addresses for pod in pods]
    for record in seen:
        client, server = (None if end is None else same_end(end) for end in (record.src, record.dst))
        if record.src is None and record.dst is None:
            continue
        if (client, server) not in ends:
            yield _difference(record, "the ends of a TLS connection", f"{record.src} and {record.dst}")
        elif record.pod_ip is not None and not _has_an_end(record.pod_ip, client, server, addresses):
            yield _difference(record, "a pod with an end of the connection", record.pod_ip)


def _has_an_end(pod_ip: str, client: Address | None, server: Address | None, pods: Sequence[frozenset[str]]) -> bool:
    """Whether one of the ends is an address of the pod that has this address."""
    own = next((addresses for addresses in pods if same_address(pod_ip) in addresses), frozenset[str]())
    return any(end is not None and end[0] in own for end in (client, server))


def _difference(record: ReportedExchange, expected: str, seen: str) -> Difference:
    what = in_words(f"a record of {record.method} {record.target} with {FIELD}")
    return Difference(DifferenceKind.WRONG, FIELD, what, expected, in_words(seen), None, record.record)
