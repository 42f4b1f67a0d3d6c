"""Threads that work together, and several namespaces at once: entering one needs CAP_SYS_ADMIN, even one's own."""

from __future__ import annotations

import os
import threading

import pytest

from tapper.errors import NamespaceGoneError, TapperError
from tapper.namespaces.enter import Visit, run_inside, run_inside_each
from tapper.namespaces.identity import NamespaceId, namespace_of
from tapper.runtime.threads import NO_THREAD, on_threads

needs_setns = pytest.mark.skipif(os.geteuid() != 0, reason="setns needs CAP_SYS_ADMIN")
OWN = "/proc/self/ns/net"


@needs_setns
def test_with_threads_all_are_inside_at_the_same_time_and_results_keep_their_order() -> None:
    own = namespace_of(OWN)
    together = threading.Barrier(3, timeout=10)

    def number(index: int) -> Visit[tuple[int, NamespaceId]]:
        def inside() -> tuple[int, NamespaceId]:
            together.wait()
            return index, namespace_of("/proc/thread-self/ns/net")

        return Visit([OWN], own, inside)

    assert run_inside_each([number(index) for index in range(6)], 3) == [(index, own) for index in range(6)]


@needs_setns
@pytest.mark.parametrize("threads", [1, 5])
def test_one_that_is_gone_costs_the_others_nothing(threads: int) -> None:
    own = namespace_of(OWN)
    gone = Visit(["/proc/self/ns/none"], own, lambda: "inside")
    other = Visit([OWN], NamespaceId(own.device, own.inode + 1), lambda: "inside")
    first, second, third = run_inside_each([gone, other, Visit([OWN], own, lambda: "inside")], threads)
    assert isinstance(first, NamespaceGoneError)
    assert isinstance(second, NamespaceGoneError)
    assert third == "inside"
    assert run_inside_each([], threads) == []


@needs_setns
def test_a_namespace_is_entered_by_the_first_link_that_leads_there() -> None:
    own = namespace_of(OWN)
    assert run_inside(["/proc/self/ns/none", OWN, "/not reached"], own, lambda: "inside") == "inside"
    for links in ([], ["/proc/self/ns/none"], "/proc/self/ns/none", ["/proc/self/ns/user"]):
        with pytest.raises(NamespaceGoneError):
            run_inside(links, own, lambda: "inside")


def test_an_error_of_the_tapper_is_a_result_and_any_other_is_raised() -> None:
    def fail() -> str:
        raise TapperError("no room")

    def break_down() -> str:
        raise ZeroDivisionError

    failed, done = on_threads([fail, lambda: "done"])
    assert isinstance(failed, TapperError)
    assert done == "done"
    with pytest.raises(ZeroDivisionError):
        on_threads([break_down] * 3, 2)


def test_without_any_thread_every_function_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not on the caller's thread: that would stay in another namespace."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    called: list[int] = []
    results = on_threads([lambda: called.append(1)] * 2, 2)
    assert [str(result) for result in results] == [NO_THREAD] * 2
    assert not called
