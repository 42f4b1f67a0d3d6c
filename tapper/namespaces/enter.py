"""Doing something inside another process's network namespace (setns(2), network_namespaces(7)).

A thread that enters a namespace and fails to come back poisons whatever runs on it later; tappers have shipped that
bug. So the thread that enters is thrown away. It opens a socket there, and the socket carries its namespace wherever
it is used: binding and interface names resolve in it from outside.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from tapper.errors import MissingCapabilityError, NamespaceGoneError, TapperError, explain
from tapper.namespaces.identity import NamespaceId, namespace_of
from tapper.namespaces.privileges import Capability, advice

T = TypeVar("T")

CLONE_NEWNET = 0x4000_0000  # linux/sched.h

_libc = ctypes.CDLL(None, use_errno=True)


def run_inside(path: str, expected: NamespaceId, function: Callable[[], T]) -> T:
    """Call `function` on a thread of its own inside the namespace of `path`, and return what it returned.

    Raises NamespaceGoneError where the path leads nowhere any longer, or to another namespace than `expected`;
    MissingCapabilityError where the kernel refuses; and whatever `function` raises.
    """
    descriptor = _open_expected(path, expected)
    try:
        return _on_lost_thread(descriptor, function)
    finally:
        os.close(descriptor)  # an open namespace is a namespace that lives on


def _open_expected(path: str, expected: NamespaceId) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        raise NamespaceGoneError(f"{path} is gone") from None
    except OSError as error:
        raise TapperError(f"cannot open {path}: {explain(error)}") from error
    try:
        if namespace_of(f"/proc/self/fd/{descriptor}") != expected:
            raise NamespaceGoneError(f"{path} is another namespace than before")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


class Visit(NamedTuple, Generic[T]):
    """What to do in a namespace."""

    path: str
    expected: NamespaceId
    function: Callable[[], T]


def run_inside_each(visits: Sequence[Visit[T]], threads: int = 1) -> list[T | TapperError]:
    """`run_inside` for many namespaces: what each call returned or raised.

    Threads go from one namespace to the next, which costs a fraction of a thread for each. One is enough for functions
    that work; for those in which the kernel waits, several wait at the same time. Raises only what is no TapperError.
    """
    results: dict[int, T | TapperError] = {}
    failures: list[BaseException] = []
    waiting = iter(range(len(visits)))  # whose next is taken by one thread only: a built-in iterator's is one step

    def visit() -> None:
        try:
            for index in waiting:
                try:
                    results[index] = _enter_and_call(*visits[index])
                except TapperError as error:
                    results[index] = error
        except BaseException as error:  # raised again where it belongs, on the caller's thread
            failures.append(error)

    started = [threading.Thread(target=visit, name="in-namespaces") for _ in range(min(threads, len(visits)))]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    if failures:
        raise failures[0]
    return [results[index] for index in range(len(visits))]


def _enter_and_call(path: str, expected: NamespaceId, function: Callable[[], T]) -> T:
    """On a thread that is thrown away: it stays where this leaves it."""
    descriptor = _open_expected(path, expected)
    try:
        _setns(descriptor)
    finally:
        os.close(descriptor)
    return function()


def _on_lost_thread(descriptor: int, function: Callable[[], T]) -> T:
    results: list[T] = []
    failures: list[BaseException] = []

    def enter() -> None:
        try:
            _setns(descriptor)
            results.append(function())
        except BaseException as error:  # raised again where it belongs, on the caller's thread
            failures.append(error)

    thread = threading.Thread(target=enter, name="in-namespace")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def _setns(descriptor: int) -> None:
    """setns(2); Python has it from 3.12 on."""
    try:
        if hasattr(os, "setns"):
            os.setns(descriptor, CLONE_NEWNET)
        elif _libc.setns(descriptor, CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    except PermissionError:
        raise MissingCapabilityError(advice(Capability.SYS_ADMIN)) from None
    except OSError as error:
        raise TapperError(f"cannot enter a network namespace: {explain(error)}") from error
