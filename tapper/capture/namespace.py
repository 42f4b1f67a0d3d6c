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
from typing import TypeVar

from tapper.discovery.netns import NamespaceId, namespace_of
from tapper.errors import MissingCapabilityError, NamespaceGoneError, TapperError, explain
from tapper.privileges import Capability, advice

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


def run_inside_each(
    places: Sequence[tuple[str, NamespaceId]], function: Callable[[], T]
) -> list[T | NamespaceGoneError | TapperError]:
    """`run_inside` for many namespaces, on one thread that goes from one to the next: what each call returned or
    raised. It costs a fraction of a thread for each. Raises only what is no TapperError."""
    results: list[T | NamespaceGoneError | TapperError] = []
    failures: list[BaseException] = []

    def visit() -> None:
        try:
            for path, expected in places:
                try:
                    results.append(_enter_and_call(path, expected, function))
                except TapperError as error:
                    results.append(error)
        except BaseException as error:  # raised again where it belongs, on the caller's thread
            failures.append(error)

    thread = threading.Thread(target=visit, name="in-namespaces")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results


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
