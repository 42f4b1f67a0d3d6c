"""Several namespaces at once. Entering one takes the right to, even one's own."""

from __future__ import annotations

import os
import threading

import pytest

from tapper.errors import NamespaceGoneError
from tapper.namespaces.enter import Visit, run_inside_each
from tapper.namespaces.identity import NamespaceId, namespace_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="setns needs CAP_SYS_ADMIN")
OWN = "/proc/self/ns/net"


def test_with_threads_all_are_inside_at_the_same_time_and_results_keep_their_order() -> None:
    own = namespace_of(OWN)
    together = threading.Barrier(3, timeout=10)

    def number(index: int) -> Visit[tuple[int, NamespaceId]]:
        def inside() -> tuple[int, NamespaceId]:
            together.wait()
            return index, namespace_of("/proc/thread-self/ns/net")

        return Visit(OWN, own, inside)

    assert run_inside_each([number(index) for index in range(6)], 3) == [(index, own) for index in range(6)]


@pytest.mark.parametrize("threads", [1, 5])
def test_one_that_is_gone_costs_the_others_nothing(threads: int) -> None:
    own = namespace_of(OWN)
    gone = Visit("/proc/self/ns/none", own, lambda: "inside")
    other = Visit(OWN, NamespaceId(own.device, own.inode + 1), lambda: "inside")
    first, second, third = run_inside_each([gone, other, Visit(OWN, own, lambda: "inside")], threads)
    assert isinstance(first, NamespaceGoneError)
    assert isinstance(second, NamespaceGoneError)
    assert third == "inside"
    assert run_inside_each([], threads) == []


def test_what_is_no_error_of_the_tappers_is_raised_here() -> None:
    def broken() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_inside_each([Visit(OWN, namespace_of(OWN), broken)] * 3, 2)
