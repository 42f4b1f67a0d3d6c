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
    """A function to call inside a namespace."""

    links: Iterable[str]
    """The /proc/PID/ns/net of processes in it. A link that leads to another namespace, or nowhere, is skipped."""
    expected: NamespaceId
    function: Callable[[], T]


def run_inside(link: str | Iterable[str], expected: NamespaceId, function: Callable[[], T]) -> T:
    """Make one visit, and return what the function returned.

    Raises NamespaceGoneError where no link leads to the namespace; MissingCapabilityError where the kernel refuses; and
    whatever `function` raises.
    """
    (result,) = run_inside_each([Visit([link] if isinstance(link, str) else link, expected, function)])
    if isinstance(result, TapperError):
        raise result
    return result


def run_inside_each(visits: Sequence[Visit[T]], threads: int = 1) -> list[T | TapperError]:
    """Make each visit on one of at most `threads` threads; return what each function returned, or the TapperError that
    it or the entering raised. Other exceptions are raised. A thread goes from one namespace to the next: that costs
    less than a thread for each."""
    return on_threads([partial(_enter_and_call, visit) for visit in visits], threads)


def _enter_and_call(visit: Visit[T]) -> T:
    """Only on a thread that ends: it stays in the namespace."""
    for link in visit.links:
        # 1. Open the link.
        try:
            descriptor = os.open(link, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, ProcessLookupError):
            continue
        except OSError as error:
            raise TapperError(f"cannot open {link}: {explain(error)}") from error
        try:
            # 2. The process may have ended, and its number may belong to another process.
            if namespace_of(descriptor) != visit.expected:
                continue
            # 3. Enter.
            _setns(descriptor)
        finally:
            os.close(descriptor)  # it would keep the namespace alive
        # 4. Act inside.
        return visit.function()
    raise NamespaceGoneError(f"no known process is in network namespace {visit.expected.inode} any longer")


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
