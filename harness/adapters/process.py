"""`TapperProcess`: a tapper as a process on a node of the sandbox, started as its adapter says.

The kit does not trust it: its output is read as it comes and bounded, as are its memory and its files; the processes
that it leaves behind are found, and end with the node at the latest.
"""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

from harness.adapters import files, programs
from harness.adapters.contract import Adapter, Update, environment
from harness.adapters.family import Family
from harness.adapters.limits import LimitWatch
from harness.adapters.observed import Output, in_words
from harness.adapters.packets import Capture
from harness.adapters.pipes import Pipes
from harness.adapters.records import Records
from harness.adapters.running import Ending, Running, TapperFault
from harness.adapters.stderr import StandardError
from harness.adapters.targets import Target, TargetsFileWriter
from harness.errors import InternalError, Unsupported, WaitTimeout
from harness.sandbox.node import Node
from harness.sandbox.process import MINIMAL_ENVIRON, Command, Overlay
from harness.waiting import wait_until

_ROUNDS_OF_KILLING = 10
_FAREWELL_S = 5.0
_OF_THE_MACHINE = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT}
"""Why a program cannot be started although nothing is wrong with it."""
_INTO_THE_BACKGROUND_S = 0.3
_READY_FD = 3
_STRAYS_GRACE_S = 1.0


class TapperProcess(Running):
    """Started on construction; `stop` it. `directory` gets its output, its log and its targets file.

    `command` replaces the adapter's, environment included; `capabilities` are the only ones that it gets, all by
    default. `read_tls` asks it to read what applications encrypt themselves. `alone`: every process of the node that
    has lost its parent is the tapper's. Raises `TapperFault` if it cannot be started.
    """

    def __init__(
        self,
        adapter: Adapter,
        node: Node,
        targets: Sequence[Target],
        directory: Path,
        *,
        procfs: str = "/proc",
        command: Command | None = None,
        capabilities: frozenset[str] | None = None,
        overlay: Overlay | None = None,
        read_tls: bool = False,
        alone: bool = True,
    ) -> None:
        super().__init__(adapter, targets)
        self.directory = directory
        self._node = node
        self._alone = alone
        self._targets = TargetsFileWriter(directory / "targets.json")
        self._state = directory / "state"
        self._state.mkdir(parents=True)
        self._out = directory / "output"
        if adapter.to == "directory":
            self._out.mkdir()
        self._targets.write(targets)
        # TMPDIR: temporary files belong into the folder of the run, not into the directory of the machine
        self.environ = (
            MINIMAL_ENVIRON
            | {"TMPDIR": str(self._state)}
            | dict(adapter.env)
            | self._contract(procfs, targets, read_tls=read_tls)
        )
        self.output = self._open_output()
        ready_read, ready_write = os.pipe2(os.O_CLOEXEC)
        try:
            self.process = node.spawn(
                replace(command or self._command(capabilities), overlay=overlay),
                name="tapper",
                stdout=subprocess.PIPE,
                fds=[ready_write],
            )
        except OSError as error:
            os.close(ready_read)
            if error.errno in _OF_THE_MACHINE:
                reason = (error.strerror or str(error)).lower()
                raise Unsupported(
                    f"no program can be started here now: {reason}; make room, and run it again"
                ) from None
            raise TapperFault("a tapper that can be started", f"{adapter.argv[0]}: {error.strerror or error}") from None
        except BaseException:
            os.close(ready_read)
            raise
        finally:
            os.close(ready_write)
        assert self.process.log_path is not None
        assert self.process.stdout is not None
        self.stderr = StandardError(self.process.log_path)
        self.family = Family(self.process)
        self._declared = False
        self._ending: Ending | None = None
        self._frozen = False
        self._watch = LimitWatch(self.family, self._sizes)
        self._taken = 0
        self._kept: io.FileIO | None = (directory / "stdout").open("wb", buffering=0)
        self._pipes = Pipes(self.process.stdout.fileno(), ready_read, self._take)

    # -- Running ---------------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        return self.process.running

    @property
    def returncode(self) -> int | None:
        return self.process.returncode

    def ended(self) -> str | None:
        code = self.returncode
        if code is None:
            return None
        how = self._watch.excess or (f"killed by signal {-code}" if code < 0 else f"exit code {code}")
        last_line = self.stderr.last_line()
        left = self._left_behind()
        return (
            f"its end ({how})"
            + (f": {last_line}" if last_line else "")
            + (f"; it goes on in the background ({in_words(left[0])}): run it in the foreground" if left else "")
        )

    @property
    def most_memory(self) -> int:
        """The largest resident memory of it and its children that was measured, in bytes."""
        return self._watch.most_memory

    def outputs(self) -> Sequence[tuple[str, Output]]:
        self.output.refresh()
        return [("the node", self.output)]

    def read_log(self) -> str:
        return self.stderr.text()

    def everything(self) -> Iterator[bytes]:
        yield from self.output.everything()
        yield self.stderr.since(0)

    def last_words(self) -> str:
        return self.stderr.last_line()

    def why_silent(self) -> list[str]:
        closed = ["its standard output is closed"] if self._pipes.closed else []
        return closed + super().why_silent()

    def declared_ready(self) -> bool:
        """Whether the tapper has said by now, in the way of its adapter, that it captures."""
        pattern = self.adapter.ready_line
        if pattern is not None:
            self._declared = self._declared or self.stderr.has_new(pattern, more_to_come=self.running)
            return self._declared
        return self.adapter.ready_by_fd and self._pipes.said_ready

    def wait_for_news(self, seconds: float) -> None:
        self._pipes.wait_for_news(seconds)

    # -- what is done to it ----------------------------------------------------------------------------------------

    def _update(self, targets: Sequence[Target]) -> None:
        """Rewrite the targets file, and tell the tapper in the way of its adapter."""
        self._targets.write(targets)
        match self.adapter.update:
            case Update.SIGHUP:
                self.process.send_signal(signal.SIGHUP)
            case Update.EXEC:
                hook = self.adapter.update_argv
                try:
                    self._node.run(Command(hook, env=self.environ, cwd=str(self.adapter.folder)))
                except (OSError, subprocess.CalledProcessError, WaitTimeout) as error:
                    raise TapperFault(f"the hook {' '.join(hook)} to end with 0", in_words(str(error))) from None
            case Update.WATCH:
                pass
            case Update.NONE:
                raise InternalError(f"{self.adapter.implementation.name} cannot be given other targets")

    def freeze(self) -> None:
        """Stop all of its processes (SIGSTOP): captured packets wait in the kernel. `stop` lets them go on."""
        self.family.send_signal(signal.SIGSTOP)
        self._frozen = True

    @contextmanager
    def unread(self) -> Iterator[None]:
        """Do not read its standard output meanwhile: it fills the pipe (64 KiB, pipe(7)), and then has to wait."""
        self._pipes.hold()
        try:
            yield
        finally:
            self._pipes.go_on()

    def stop(self, patience: float = 1.0, *, signum: int | None = None, grace_s: float | None = None) -> Ending:
        """Send it the signal (the adapter's by default), kill it after its grace period, read the rest of its output,
        and look for processes that it left. A second call does nothing."""
        if self._ending is not None:
            return self._ending
        started = time.monotonic()
        killed = False
        self.process.send_signal(self.adapter.stop_signal if signum is None else signum)
        if self._frozen:
            self.family.send_signal(signal.SIGCONT)
        try:
            code = self.process.wait((grace_s or self.adapter.stop_grace_s) * patience)
        except WaitTimeout:
            killed = True
            self.family.kill()
            code = self.process.wait()
        seconds = time.monotonic() - started
        strays = self._late_strays(patience)
        self._kill_strays(strays)
        self._watch.stop(_FAREWELL_S)
        self._pipes.finish(_FAREWELL_S)  # a hidden process may hold the pipe open; it ends with the node
        self.stderr.close()
        self.output.refresh()
        self.output.finish()
        self._ending = Ending(code, seconds, killed, strays)
        return self._ending

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- inner -----------------------------------------------------------------------------------------------------

    def save(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)  # the tapper may have deleted it
        known = {
            "argv": list(self.adapter.argv),
            "env": self.environ,
            "exit_code": self.returncode,
            "most_memory_bytes": self.most_memory,
            "notes": self.problems(),
        }
        (self.directory / "run.json").write_text(json.dumps(known, indent=2) + "\n")
        (self.directory / "stderr").write_text(self.stderr.text())

    def _left_behind(self) -> list[str]:
        """The children that go on after its end, after the moment that it takes to go into the background."""
        left: dict[int, str] = {}

        def any_left() -> bool:
            left.update(self._strays())
            return bool(left)

        try:
            wait_until(any_left, "processes that it left", _INTO_THE_BACKGROUND_S)
        except WaitTimeout:
            return []
        return list(left.values())

    def _kill_strays(self, strays: Mapping[int, str]) -> None:
        """In rounds: the children of a killed process become strays, and some start another before they die."""
        for _ in range(_ROUNDS_OF_KILLING):
            if not strays:
                return
            self._node.kill(strays)
            strays = self._strays()

    def _contract(self, procfs: str, targets: Sequence[Target], *, read_tls: bool) -> dict[str, str]:
        return environment(
            procfs=procfs,
            targets_file=str(self._targets.path),
            target_ips=[ip for target in targets for ip in target.ips],
            output="-" if self.adapter.to == "stdout" else str(self._out),
            ready_fd=_READY_FD,
            state=str(self._state),
            read_tls=read_tls,
        )

    def _command(self, capabilities: Set[str] | None) -> Command:
        adapter, program = self.adapter, programs.executable(self.adapter)
        return Command(
            adapter.argv,
            env=self.environ,
            executable=program,
            cwd=str(adapter.folder),
            capabilities=capabilities,
        )

    def _open_output(self) -> Output:
        path = None if self.adapter.to == "stdout" else self._out
        return Records(path) if self.adapter.format == "ndjson" else Capture(path)

    def _take(self, data: bytes) -> None:
        """Keep a piece of its standard output. A tapper that writes too much is killed."""
        if not data:
            self._keep_no_more()
            return
        self._taken += len(data)
        if not self._watch.output(self._taken):
            return  # go on emptying the pipe, so that it can end
        if self._kept is not None:
            try:
                if self._kept.write(data) < len(data):
                    self._keep_no_more()
            except OSError:  # a full disk: the tapper must not wait for it
                self._keep_no_more()
        if self.adapter.to == "stdout":
            self.output.feed(data)

    def _keep_no_more(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _sizes(self) -> tuple[int, int, int]:
        return self.stderr.size, files.size(self._out) + files.size(self._state), self._node.memory_files()

    def _strays(self) -> dict[int, str]:
        """The processes that it has left to the node's PID 1 by now: pid (in the node) -> command."""
        return self._node.strays() if self._alone else {}

    def _late_strays(self, patience: float) -> dict[int, str]:
        """The processes that it left, after a moment in which they may end by themselves."""
        left: dict[int, str] = {}

        def none_left() -> bool:
            nonlocal left
            left = self._strays()
            return not left

        try:
            wait_until(none_left, "the tapper's children to end", _STRAYS_GRACE_S * patience)
        except WaitTimeout:
            return left
        return {}
