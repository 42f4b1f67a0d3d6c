"""The ways to a namespace: what each looks for, and the sentence about a target that none of them finds."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from tapper.discovery.finders import Candidate, Finder, is_linkerd_path, why_unseen
from tapper.namespaces.identity import NamespaceId

NETNS = NamespaceId(4, 999)
HOME = Candidate(77, NETNS, Finder.NETNS)
ADDRESS = ip_address("10.0.0.1")


@pytest.mark.parametrize(
    ("exe", "expected"),
    [
        ("/usr/lib/linkerd/linkerd2-proxy", True),
        ("/linkerd2-proxy (deleted)", True),
        ("/usr/lib/linkerd/linkerd2-proxy-identity", False),
        ("/usr/lib/linkerd/xlinkerd2-proxy", False),
        ("/linkerd2-proxy/sleeper", False),
        ("/memfd:linkerd2-proxy (deleted)", False),
    ],
)
def test_the_last_component_is_exactly_linkerd2_proxy(exe: str, expected: bool) -> None:
    assert is_linkerd_path(exe) is expected
    assert Finder.LINKERD.finds(exe) is expected
    assert not Finder.ENVOY.finds(exe)
    assert Finder.NETNS.finds(exe)


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
def test_why_a_target_is_not_seen(
    finders: set[Finder], home: Candidate | None, shared: set[NamespaceId], others: set[NamespaceId], expected: str
) -> None:
    assert why_unseen(ADDRESS, home, finders, shared=shared, other_envoys=others).startswith(expected)
