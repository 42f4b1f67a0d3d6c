"""The sentence about a target of which nothing is captured."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from tapper.discovery.finders import Candidate, Finder
from tapper.follow.missing import why_missing
from tapper.namespaces.identity import NamespaceId

NETNS = NamespaceId(4, 999)
HOME = Candidate(77, NETNS, Finder.NETNS)
ADDRESS = ip_address("10.0.0.1")


@pytest.mark.parametrize(
    ("finders", "home", "shared", "others", "expected"),
    [
        ({Finder.ENVOY}, None, set(), set(), "no Envoy with INSTANCE_IP 10.0.0.1 yet, and no network namespace here"),
        (
            {Finder.ENVOY},
            HOME,
            set(),
            set(),
            "no Envoy with INSTANCE_IP 10.0.0.1 yet, and no sidecar in its network",
        ),
        (
            {Finder.ENVOY},
            HOME,
            set(),
            {NETNS},
            "no Envoy with INSTANCE_IP 10.0.0.1 yet, but its network namespace",
        ),
        ({Finder.ENVOY}, HOME, {NETNS}, set(), "10.0.0.1 is the node's own address"),
        ({Finder.ENVOY, Finder.LINKERD}, HOME, set(), set(), "no Envoy and no Linkerd proxy of 10.0.0.1 yet"),
        ({Finder.NETNS}, None, set(), set(), "no network namespace of 10.0.0.1 yet"),
    ],
)
def test_why_a_target_is_missing(
    finders: set[Finder], home: Candidate | None, shared: set[NamespaceId], others: set[NamespaceId], expected: str
) -> None:
    assert why_missing(ADDRESS, home, finders, shared=shared, other_envoys=others).startswith(expected)
