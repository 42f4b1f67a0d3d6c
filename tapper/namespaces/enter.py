"""Calling a function inside another process's network namespace (setns(2), network_namespaces(7)).

A thread that enters a namespace and fails to come back would run later work in the wrong namespace. So the thread that
enters never comes back: it ends. A socket that it opens keeps its namespace wherever it is used: bind(2) and interface
names resolve in that namespace.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Generic, NamedTuple, TypeVar

from tapper.errors import MissingCapabilityError, NamespaceGoneError, TapperError, explain
from tapper.namespaces.identity import NamespaceId, namespace_of
from tapper.namespaces.privileges import Capability, advice
from tapper.runtime.threads import on_threads

T = TypeVar("T")

CLONE_NEWNET = 0x4000_0000  # linux/sched.h

_libc = ctypes.CDLL(None, use_errno=True)


class Visit(NamedTuple, Generic[T]):
    """A function to call inside the namespace to which the link `path` (/proc/PID/ns/net) leads."""

    path: str
    expected: NamespaceId
    """Where the link leads to another namespace, the function is not called."""
    function: Callable[[], T]


def run_inside(paths: str | Iterable[str], expected: NamespaceId, function: Callable[[], T]) -> T:
    """Call `function` inside the namespace `expected`, by the first of its links that still leads there; return its
    result.

    Raises NamespaceGoneError where no link does; MissingCapabilityError where the kernel refuses; and whatever
    `function` raises.
    """
    result: T | TapperError = NamespaceGoneError(
        f"no known process is in network namespace {expected.inode} any longer"
    )
    for path in [paths] if isinstance(paths, str) else paths:
        (result,) = run_inside_each([Visit(path, expected, function)])
        if not isinstance(result, NamespaceGoneError):
            break
    if isinstance(result, TapperError):
        raise result
    return result


def run_inside_each(visits: Sequence[Visit[T]], threads: int = 1) -> list[T | TapperError]:
    """Make each visit on one of at most `threads` threads; return what each function returned, or the TapperError that
    it or the entering raised. Other exceptions are raised. A thread goes from one namespace to the next: that costs
    less than a thread for each."""
    return on_threads([partial(_visit, visit) for visit in visits], threads)


def _visit(visit: Visit[T]) -> T:
    """Enter a namespace for good, and call the function. Only on a thread that ends."""
    # 1. Open the link. An open descriptor keeps a namespace alive, so it is closed before the function runs.
    try:
        descriptor = os.open(visit.path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        raise NamespaceGoneError(f"{visit.path} is gone") from None
    except OSError as error:
        raise TapperError(f"cannot open {visit.path}: {explain(error)}") from error
    try:
        # 2. The process may have ended, and its number may belong to another process.
        if namespace_of(descriptor) != visit.expected:
            raise NamespaceGoneError(f"{visit.path} leads to another namespace than before")
        # 3. Enter.
        _setns(descriptor)
    finally:
        os.close(descriptor)
    # 4. Act inside.
    return visit.function()


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
