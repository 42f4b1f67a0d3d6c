"""The tapper's exceptions by cause, each with its exit code.

A message is one sentence for a person: what failed, on what, and what to do about it.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator


class TapperError(Exception):
    """The root: every failure that is reported by a sentence and not by a traceback. Exit code 1."""

    exit_code = 1


class UsageError(TapperError):
    """The command line asks for something impossible: a bad address, an unknown interface. Exit code 2."""

    exit_code = 2


class MissingCapabilityError(TapperError):
    """The kernel refused for want of a capability, which the message names. Exit code 3."""

    exit_code = 3


class ProcfsError(TapperError):
    """The procfs root is missing, unreadable or not a procfs. Exit code 4."""

    exit_code = 4


class CaptureFileError(TapperError):
    """A capture file is damaged, ends too early, or is no capture file. Exit code 5."""

    exit_code = 5


class MissingPackageError(TapperError):
    """An option needs a Python package that is not installed; the message says how to get it. Exit code 6."""

    exit_code = 6


class KubernetesError(TapperError):
    """The Kubernetes API cannot be used: no configuration, no answer, or a refusal. Exit code 7."""

    exit_code = 7


class NamespaceGoneError(TapperError):
    """The process of a namespace ended, or its pid became another process, between the scan and the opening.

    This is usual in a cluster and reported to nobody: the next scan decides.
    """


def explain(error: OSError) -> str:
    """The kernel's text for an error number, in lower case, as the end of a sentence."""
    return (error.strerror or str(error)).lower()


def without_text(error: Exception) -> Iterator[str]:
    """Lines about an error in the tapper itself: its class and where it was raised, as in a traceback. Its text is left
    out, since it may quote captured bytes: int() quotes what is no number. The kernel's texts quote nothing."""
    kind = type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        kind += f" ({explain(error)})"
    yield (
        f"ended by an error in the tapper itself, {kind}; its text is left out, since it may quote "
        "what was captured (--no-redact shows it): please report these lines"
    )
    for frame in traceback.extract_tb(error.__traceback__):
        yield f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}'
