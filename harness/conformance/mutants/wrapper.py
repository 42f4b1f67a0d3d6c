"""Runs the reference with a fault around it, as one tapper: `tapper-harness`'s contract outside, the same inside.

    reference --stdout--> filters --> the kit
    reference --pcapng--> packet filters --> a second tapper, reading (-r -) --stdout--> filters --> the kit
    reference --pcapng--> packet filters --> the kit

Signals, standard error, the descriptor for readiness and the exit code pass through unless the fault says otherwise.
The reference dies with its wrapper, by the kernel.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

from harness.conformance.mutants import streams
from harness.conformance.mutants.model import AtStop, Fault, MutantEndsError, TargetsDocument
from harness.conformance.mutants.packets import over_packets
from harness.sandbox import syscalls

_PREFIX = "TAPPER_HARNESS_"
_CHUNK = 1 << 16
_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
_ENDING = (signal.SIGTERM, signal.SIGINT)
_FAILED = 1
_PCAPNG = ("-o", "pcapng", "--no-redact")
_READER = (sys.executable, "-m", "tapper", "tap", "-r", "-", "-o", "ndjson")


def run(fault: Fault, reference: Sequence[str]) -> int:
    """Run `reference` (a command line) with the fault around it; returns the exit code."""
    return _Wrapped(fault, reference).run()


class _Wrapped:
    """One run."""

    def __init__(self, fault: Fault, reference: Sequence[str]) -> None:
        self._fault = fault
        self._argv = [*reference, *fault.options]
        self._environ = dict(os.environ) | dict(fault.environ)
        self._lock = threading.Lock()
        self._updates: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._first = 0
        """The process that captures."""
        self._killed = False

    def run(self) -> int:
        # 1. A signal that comes before there is a process to pass it on to waits.
        signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
        for step in self._fault.begin:
            step()
        # 2. What the reference is told: its output comes here, its targets are the fault's.
        self._out = self._open_output()
        self._environ[f"{_PREFIX}OUTPUT"] = "-"
        ready = self._ready_fd()
        documents = self._first_targets()
        # 3. Start it, and the reader of its packets where the fault is in them.
        output, processes = self._start()
        self._first = processes[0]
        if ready is not None:
            os.close(ready)  # what has said that it is ready closes it, and nobody else has it open
        if self._fault.targets:
            threading.Thread(target=self._follow_targets, args=(documents,), daemon=True).start()
        for number in _PASSED_ON:
            signal.signal(number, self._take_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
        # 4. Write what the filters make of its output, as it comes, and end as it ends.
        try:
            for line in self._filtered(_chunks(output)):
                self._write(line)
        except MutantEndsError as end:
            sys.stderr.write(f"{end}\n")
            os.kill(self._first, signal.SIGKILL)
            return _FAILED
        return self._ended(processes)

    # -- output ----------------------------------------------------------------------------------------------------

    def _open_output(self) -> int:
        path = self._environ[f"{_PREFIX}OUTPUT"]
        if path == "-":
            return 1
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, self._fault.file_mode)
        os.fchmod(descriptor, self._fault.file_mode)  # whatever the umask is
        return descriptor

    def _filtered(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        if self._fault.writes_packets:
            return self._packets(chunks)
        if not self._fault.records and not self._fault.lines:
            return chunks
        lines = streams.lines(chunks)
        for of_records in self._fault.records:
            lines = streams.over_records(of_records)(lines)
        for of_lines in self._fault.lines:
            lines = of_lines(lines)
        return lines

    def _packets(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for of_packets in self._fault.packets:
            chunks = over_packets(of_packets)(chunks)
        return chunks

    def _write(self, data: bytes) -> None:
        with self._lock:
            _write_all(self._out, data)

    # -- processes -------------------------------------------------------------------------------------------------

    def _start(self) -> tuple[int, list[int]]:
        """The descriptor to read its output from, and its processes, the one that captures first."""
        captured, into = os.pipe2(os.O_CLOEXEC)
        if not self._fault.packets or self._fault.writes_packets:
            process = self._spawn([*self._argv, *(_PCAPNG if self._fault.writes_packets else ())], 0, into)
            os.close(into)
            return captured, [process]
        process = self._spawn([*self._argv, *_PCAPNG], 0, into)
        packets, feeding = os.pipe2(os.O_CLOEXEC)
        output, reading = os.pipe2(os.O_CLOEXEC)
        reader = self._spawn(_READER, packets, reading)
        for descriptor in (into, packets, reading):
            os.close(descriptor)
        threading.Thread(target=self._feed, args=(captured, feeding), daemon=True).start()
        return output, [process, reader]

    def _spawn(self, argv: Sequence[str], stdin: int, stdout: int) -> int:
        """Start a program that dies with this process."""
        own = os.getpid()
        process = os.fork()
        if process:
            return process
        try:  # in the child: nothing but what has to be before execve(2)
            syscalls.set_death_signal(signal.SIGKILL)
            if os.getppid() != own:
                os._exit(_FAILED)
            os.dup2(stdin, 0, inheritable=True)
            os.dup2(stdout, 1, inheritable=True)
            if self._fault.silent:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2, inheritable=True)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
            os.execve(argv[0], list(argv), self._environ)
        except OSError as error:
            os.write(2, f"{argv[0]} cannot be started: {error}\n".encode())
        finally:
            os._exit(_FAILED)

    def _feed(self, captured: int, feeding: int) -> None:
        """Packets from the capturing process, through the filters, to the one that reads them."""
        try:
            for block in self._packets(_chunks(captured)):
                _write_all(feeding, block)
        except BrokenPipeError:
            pass  # the reader has ended: its exit code says why
        os.close(feeding)

    def _take_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP and self._fault.targets:
            self._updates.put(True)
        elif number in _ENDING and self._fault.at_stop is AtStop.KILL:
            self._killed = True
            os.kill(self._first, signal.SIGKILL)
        elif number not in _ENDING or self._fault.at_stop is AtStop.PASS_ON:
            try:
                os.kill(self._first, number)
            except ProcessLookupError:
                pass  # it has ended by itself, and so does this in a moment

    def _ended(self, processes: Sequence[int]) -> int:
        codes = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]
        if self._fault.exit_code is not None:
            return self._fault.exit_code
        code = 0 if self._killed else next((code for code in codes if code), 0)
        if code < 0:  # a signal's number: end by the same one
            if -code in _PASSED_ON:
                signal.signal(-code, signal.SIG_DFL)
            os.kill(os.getpid(), -code)
        return code

    # -- targets and readiness -------------------------------------------------------------------------------------

    def _ready_fd(self) -> int | None:
        """The descriptor that the reference inherits; None once this has spoken for it, or where there is none."""
        told = self._environ.get(f"{_PREFIX}READY_FD")
        if not told:
            return None
        if self._fault.ready_at_once is None or not self._fault.ready_at_once():
            return int(told)
        os.write(int(told), b"1")
        os.close(int(told))
        self._environ[f"{_PREFIX}READY_FD"] = ""
        return None

    def _first_targets(self) -> Iterator[TargetsDocument]:
        """The filtered documents; the first of them is written by now."""
        if not self._fault.targets:
            return iter(())
        theirs = Path(self._environ[f"{_PREFIX}TARGETS_FILE"])
        self._targets = Path(self._environ[f"{_PREFIX}STATE_DIR"]) / "targets-of-a-mutant.json"
        self._environ[f"{_PREFIX}TARGETS_FILE"] = str(self._targets)
        documents = self._documents(theirs)
        for of_targets in self._fault.targets:
            documents = of_targets(documents, lambda record: self._write(streams.written(record)))
        self._replace_targets(next(documents))
        return documents

    def _documents(self, path: Path) -> Iterator[TargetsDocument]:
        """The kit's file now, and after each SIGHUP."""
        while True:
            yield json.loads(path.read_text())
            self._updates.get()

    def _follow_targets(self, documents: Iterator[TargetsDocument]) -> None:
        for document in documents:
            self._replace_targets(document)
            os.kill(self._first, signal.SIGHUP)

    def _replace_targets(self, document: Mapping[str, object]) -> None:
        fresh = self._targets.with_suffix(".new")
        fresh.write_text(json.dumps(document))
        fresh.rename(self._targets)


def _chunks(descriptor: int) -> Iterator[bytes]:
    while data := os.read(descriptor, _CHUNK):
        yield data


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
