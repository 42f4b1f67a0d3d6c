"""Broken in reading a process's environment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.conformance.mutants.model import Fault, Mutant
from harness.conformance.mutants.reasons import TOO_MUCH, UNFOUND
from tapper.discovery import envoy
from tapper.discovery.process_memory import ProcessMemory

_KEY = b"INSTANCE_IP="


def _read_environ(read: Callable[[bytes], bytes | None]) -> None:
    envoy.instance_ip = read  # type: ignore[assignment]


def _anywhere(environ: bytes) -> bytes | None:
    _, found, rest = environ.partition(_KEY)
    return rest.partition(b"\0")[0] if found else None


def _values(entries: list[bytes]) -> list[bytes]:
    return [entry.partition(b"=")[2] for entry in entries if entry.startswith(_KEY)]


def _first(values: list[bytes]) -> bytes | None:
    return values[0] if values else None


def _strict(environ: bytes) -> bytes | None:
    try:
        environ.decode()
    except UnicodeDecodeError:
        return None
    return _first(_values(environ.split(b"\0")))


def _of_lines(environ: bytes) -> bytes | None:
    return _first(_values(environ.replace(b"\n", b"\0").split(b"\0")))


ENVIRON_ANYWHERE = Mutant(
    "environ-anywhere",
    "It takes INSTANCE_IP= for the variable wherever it stands, as in XINSTANCE_IP=.",
    {"DISC-08": UNFOUND},
    Fault(patches=(lambda: _read_environ(_anywhere),)),
)

ENVIRON_PREFIX = Mutant(
    "environ-prefix",
    "It takes every variable for INSTANCE_IP whose name begins with it.",
    {"DISC-08": TOO_MUCH},
    Fault(
        patches=(
            lambda: _read_environ(
                lambda environ: _first(
                    [e.partition(b"=")[2] for e in environ.split(b"\0") if e.startswith(_KEY[:-1]) and b"=" in e]
                )
            ),
        )
    ),
)

ENVIRON_CUT = Mutant(
    "environ-cut",
    "It cuts a value at its equals sign.",
    {"DISC-08": TOO_MUCH},
    Fault(
        patches=(
            lambda: _read_environ(
                lambda environ: _first([value.partition(b"=")[0] for value in _values(environ.split(b"\0"))])
            ),
        )
    ),
)

ENVIRON_LAST = Mutant(
    "environ-last",
    "Of a duplicate variable it takes the last, where getenv(3) takes the first.",
    {"DISC-08": TOO_MUCH},
    Fault(patches=(lambda: _read_environ(lambda environ: _first(_values(environ.split(b"\0"))[::-1])),)),
)

ENVIRON_LINES = Mutant(
    "environ-lines",
    "It takes a line feed for the end of a variable.",
    {"DISC-08": TOO_MUCH},
    Fault(
        patches=(lambda: _read_environ(lambda environ: _first(_values(environ.replace(b"\n", b"\0").split(b"\0")))),)
    ),
)

ENVIRON_PAGE = Mutant(
    "environ-page",
    "It reads the first 4,096 bytes of an environment.",
    {"DISC-08": UNFOUND},
    Fault(patches=(lambda: _read_environ(lambda environ: _first(_values(environ[:4096].split(b"\0")))),)),
)

ENVIRON_UTF8 = Mutant(
    "environ-utf8",
    "It gives up on an environment that is not UTF-8.",
    {"DISC-08": UNFOUND},
    Fault(patches=(lambda: _read_environ(_strict),)),
)


def _read_all_of_it() -> None:
    def read(_self: ProcessMemory, path: str, _most: int | None = None) -> bytes:
        return Path(path).read_bytes()

    ProcessMemory.read = read  # type: ignore[method-assign,assignment]


READS_ALL_OF_IT = Mutant(
    "reads-all-of-it",
    "It reads the environment of a process however large it is.",
    {"SEC-12": "MiB"},
    Fault(patches=(_read_all_of_it,)),
)
