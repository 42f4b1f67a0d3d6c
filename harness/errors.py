"""The exceptions of the harness, so that a person can tell whose fault a failure is.

`InternalError`  the harness itself did something wrong.
`Unsupported`    the machine lacks something; the message says what, why it is needed and what to do.
`WaitTimeout`    something that should have happened did not, within its deadline; the message carries the logs.
`Leak`           something outlived the thing that owned it.
"""

from __future__ import annotations


class HarnessError(Exception):
    """Base class of all exceptions that the harness raises on purpose."""


class InternalError(HarnessError):
    """A fault of the harness itself."""


class Unsupported(HarnessError):
    """The machine lacks something: one sentence with the cause and the remedy."""


def lacks_package(error: ModuleNotFoundError) -> Unsupported:
    """The exception for a missing package of the `harness` extra."""
    return Unsupported(f"the package {error.name} is not installed: pip install 'tapper-harness[harness]'")


class WaitTimeout(HarnessError):
    """A probe did not succeed before its deadline."""


class Leak(HarnessError):
    """A process, namespace, thread or file descriptor outlived its owner."""
