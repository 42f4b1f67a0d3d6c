"""Which processes each finder looks for."""

from __future__ import annotations

import pytest

from tapper.discovery.finders import Finder, is_linkerd_path


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
