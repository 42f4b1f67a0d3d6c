"""Several namespaces at once. Entering one takes the right to, even one's own."""

from __future__ import annotations

import os
import threading

import pytest

from tapper.capture.namespace import run_inside_together
from tapper.discovery.netns import NamespaceId, namespace_of
from tapper.errors import NamespaceGoneError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="setns needs CAP_SYS_ADMIN")
OWN = "/proc/self/ns/net"


def test_all_are_inside_at_the_same_time_and_results_keep_their_order() -> None:
    own = namespace_of(OWN)
    together = threading.Barrier(3, timeout=10)
    results = run_inside_together(
        [(OWN, own)] * 3, lambda: together.wait() >= 0 and namespace_of("/proc/thread-self/ns/net")
    )
    assert results == [own] * 3


def test_one_that_is_gone_costs_the_others_nothing() -> None:
    own = namespace_of(OWN)
    gone = ("/proc/self/ns/none", own)
    other = (OWN, NamespaceId(own.device, own.inode + 1))
    first, second, third = run_inside_together([gone, other, (OWN, own)], lambda: "inside")
    assert isinstance(first, NamespaceGoneError)
    assert isinstance(second, NamespaceGoneError)
    assert third == "inside"
    assert run_inside_together([], lambda: "inside") == []
