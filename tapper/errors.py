"""What can go wrong, by whose doing it is, and the exit code that says so.

Every message is one sentence for a person: what failed, on what, and what to do about it.
"""

from __future__ import annotations


class TapperError(Exception):
    """The root: anything the tapper reports instead of a traceback. Exit code 1."""

    exit_code = 1


class UsageError(TapperError):
    """The person asked for something that cannot be: a bad address, an unknown interface. Exit code 2."""

    exit_code = 2


class MissingCapabilityError(TapperError):
    """The kernel refused for want of a capability; the message names it. Exit code 3."""

    exit_code = 3


class ProcfsError(TapperError):
    """The procfs root is missing, unreadable or not a procfs. Exit code 4."""

    exit_code = 4


class CaptureFileError(TapperError):
    """A capture file is damaged, ends too early, or is no capture file. Exit code 5."""

    exit_code = 5


class MissingPackageError(TapperError):
    """A Python package that only this needs is not installed; the message says how to get it. Exit code 6."""

    exit_code = 6


class KubernetesError(TapperError):
    """The Kubernetes API cannot be asked: no configuration, no answer, or a refusal. Exit code 7."""

    exit_code = 7


class NamespaceGoneError(TapperError):
    """The process behind a namespace died, or became another, between the scan and the opening.

    Normal life in a cluster: the next scan decides, nobody needs to be told.
    """


def explain(error: OSError) -> str:
    """The kernel's word for an error number, in lower case, to end a sentence with."""
    return (error.strerror or str(error)).lower()
