"""Whether the programs that an adapter starts are installed and can be run, checked before any case runs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from harness.errors import HarnessError
from harness.sandbox.process import MINIMAL_ENVIRON

VERSION_S = 10.0
"""How long a tapper may take to print its version, in seconds."""
_ELF = b"\x7fELF"


class ProgramList(Protocol):
    """The programs that an adapter starts, as its file describes them."""

    @property
    def argv(self) -> tuple[str, ...]: ...
    @property
    def env(self) -> Mapping[str, str]: ...
    @property
    def folder(self) -> Path: ...
    @property
    def programs(self) -> tuple[str, ...]: ...
    @property
    def update_argv(self) -> tuple[str, ...]: ...


class Unanswered(HarnessError):
    """A tapper that does not print its version: the sentence says why."""


def search_path(adapter: ProgramList) -> str:
    """The PATH that finds the tapper's programs: its own, or the one that every tapper gets."""
    return adapter.env.get("PATH", MINIMAL_ENVIRON["PATH"])


def executable(adapter: ProgramList) -> str | None:
    """The file of argv[0], or None."""
    return shutil.which(adapter.argv[0], path=search_path(adapter))


def missing(adapter: ProgramList) -> str | None:
    """Why the tapper cannot be started, in one sentence that begins with the key; None if it can."""
    path = search_path(adapter)
    reason = _why_not(adapter.argv[0], path)
    if reason is not None:
        return f"run.argv: {reason}"
    for part in adapter.argv[1:]:
        if Path(part).is_relative_to(adapter.folder) and part.endswith((".py", ".sh")) and not Path(part).exists():
            return f"run.argv: there is no file {part}"
    reason = next((reason for name in adapter.programs if (reason := _why_not(name, path))), None)
    if reason is not None:
        return f"run.programs: {reason}"
    if adapter.update_argv and (reason := _why_not(adapter.update_argv[0], path)):
        return f"targets.update.exec: {reason}"
    return None


def version(adapter: ProgramList, argv: tuple[str, ...]) -> str:
    """The first line of a command's output. Raises `Unanswered`."""
    command = " ".join(argv)
    environ = MINIMAL_ENVIRON | dict(adapter.env)
    program = shutil.which(argv[0], path=search_path(adapter))
    if program is None:
        raise Unanswered(str(_why_not(argv[0], search_path(adapter))))
    try:
        ended = subprocess.run(
            [program, *argv[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=VERSION_S,
            check=False,
            cwd=adapter.folder,
            env=environ,
        )
    except OSError as error:
        raise Unanswered(f"{command} cannot be run: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise Unanswered(f"{command} did not end within {VERSION_S:g} s") from None
    printed = (ended.stdout.strip() or ended.stderr.strip()).decode(errors="replace").splitlines()
    if ended.returncode != 0:
        reason = f": {printed[-1]}" if printed else ""
        raise Unanswered(f"{command} ended with exit code {ended.returncode}{reason}")
    if not printed:
        raise Unanswered(f"{command} printed nothing")
    return printed[0]


def _why_not(name: str, path: str) -> str | None:
    """Why a program cannot be run, or None."""
    found = shutil.which(name, path=path)
    if found is None:
        if "/" not in name:
            return f"there is no program {name} in {path}: install it, give its whole path, or set PATH in run.env"
        if not Path(name).exists():
            return f"there is no file {name}"
        return f"{name} may not be executed: chmod +x it"
    with Path(found).open("rb") as file:
        start = file.read(256)
    if start.startswith(_ELF):
        return None
    if not start.startswith(b"#!"):
        return f"{found} is neither a program nor a script: its first line has to be #! and its interpreter"
    words = start[2:].split(b"\n")[0].split()
    interpreter = os.fsdecode(words[0]) if words else ""
    if not os.access(interpreter, os.X_OK):
        return f"the interpreter of {found}, {interpreter or 'nothing'}, is not there"
    return None
