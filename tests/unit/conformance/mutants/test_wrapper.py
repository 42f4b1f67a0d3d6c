"""A program with a fault around it: what passes through, and what does not."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from adapter_files import REPOSITORY

from harness.errors import WaitTimeout
from harness.waiting import wait_until

NOTHING = "Fault()"
HELLO = "import json, os, signal, sys\nprint(json.dumps({'type': 'hello', 'pid': os.getpid()}), flush=True)\n"
UNTIL_A_SIGNAL = HELLO + "signal.sigwait({signal.SIGTERM})\n"
WRAPPED = """
import os, sys, threading
from harness.conformance.mutants import wrapper
from harness.conformance.mutants.model import AtStop, Fault, MutantEndsError
from harness.conformance.mutants.streams import repeated
{helpers}
sys.exit(wrapper.run({fault}, [sys.executable, "-c", sys.argv[1]]))
"""


@contextmanager
def wrapped(
    directory: Path, fault: str, program: str, *, helpers: str = "", output: str = "-", ready: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A program, as the reference, with a fault around it. Killed when it is left."""
    environ = os.environ | {
        "PYTHONPATH": str(REPOSITORY),
        "TAPPER_HARNESS_OUTPUT": output,
        "TAPPER_HARNESS_READY_FD": "" if ready is None else str(ready),
        "TAPPER_HARNESS_TARGETS_FILE": str(directory / "targets.json"),
        "TAPPER_HARNESS_STATE_DIR": str(directory),
    }
    process = subprocess.Popen(
        [sys.executable, "-c", WRAPPED.format(helpers=helpers, fault=fault), program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environ,
        pass_fds=() if ready is None else (ready,),
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()


def ended(directory: Path, fault: str, program: str, **options: str) -> tuple[int, bytes, bytes]:
    """Exit code, standard output and standard error of one that ends by itself."""
    with wrapped(directory, fault, program, **options) as process:  # type: ignore[arg-type]
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err


def test_everything_passes_where_there_is_no_fault(tmp_path: Path) -> None:
    program = "import sys; sys.stdout.write('no record\\nhalf a li'); sys.stderr.write('a word'); sys.exit(7)"
    assert ended(tmp_path, NOTHING, program) == (7, b"no record\nhalf a li", b"a word")


def test_a_record_is_written_when_it_comes(tmp_path: Path) -> None:
    program = HELLO + 'print(\'{"type": "http"}\', flush=True); signal.sigwait({signal.SIGTERM})'
    with wrapped(tmp_path, "Fault(records=(repeated(lambda _: 2),))", program) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]  # while the program waits
        assert lines[1:] == [b'{"type": "http"}\n'] * 2


def test_a_record_that_is_written_in_pieces_is_one(tmp_path: Path) -> None:
    program = (
        "import sys\nfor piece in ('{\"type\"', ': \"http\"}', '\\n'): sys.stdout.write(piece); sys.stdout.flush()"
    )
    code, out, _ = ended(tmp_path, "Fault(records=(repeated(lambda _: 2),))", program)
    assert (code, out) == (0, b'{"type": "http"}\n' * 2)


def _waiting_for(*signals: signal.Signals) -> str:
    """A program that ends with 40 and the number of the first of these that comes."""
    numbers = {int(each) for each in signals}
    first = f"import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, {numbers})\n"
    return f"{first}{HELLO}sys.exit(40 + signal.sigwait({numbers}))"


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
def test_signals_pass(tmp_path: Path, signum: signal.Signals) -> None:
    with wrapped(tmp_path, NOTHING, _waiting_for(signum)) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signum)
        assert process.wait(60) == 40 + signum


def test_it_ends_by_the_signal_that_ended_the_reference(tmp_path: Path) -> None:
    code, _, _ = ended(tmp_path, NOTHING, HELLO + "os.kill(os.getpid(), signal.SIGKILL)")
    assert code == -signal.SIGKILL


@pytest.mark.parametrize(
    ("fault", "code"), [("Fault(at_stop=AtStop.KILL)", 0), ("Fault(exit_code=9)", 9), (NOTHING, -signal.SIGTERM)]
)
def test_its_end(tmp_path: Path, fault: str, code: int) -> None:
    with wrapped(tmp_path, fault, HELLO + "signal.pause()") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == code


@pytest.mark.parametrize(("fault", "comes"), [("Fault(at_stop=AtStop.IGNORE)", 0), (NOTHING, 1)])
def test_it_ignores_its_end(tmp_path: Path, fault: str, comes: int) -> None:
    """Whether the stop signal has come is asked when two other signals have, which were sent after it."""
    program = (
        "import signal\nthree = {signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP}\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, three)\n"
        + HELLO
        + "print(signal.sigwait({signal.SIGUSR1}), flush=True)\nsignal.sigwait({signal.SIGHUP})\n"
        "sys.exit(signal.SIGTERM in signal.sigpending())"
    )
    with wrapped(tmp_path, fault, program) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGUSR1)
        process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        assert process.wait(60) == comes


def test_the_reference_dies_with_it(tmp_path: Path) -> None:
    with wrapped(tmp_path, NOTHING, UNTIL_A_SIGNAL) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline().partition(b'"pid": ')[2].rstrip(b"}\n"))
        assert Path(f"/proc/{pid}").exists()
        process.kill()
        try:
            wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the reference to die with its wrapper")
        except WaitTimeout:
            os.kill(pid, signal.SIGKILL)
            raise


def test_words_to_people_are_kept_back(tmp_path: Path) -> None:
    assert ended(tmp_path, "Fault(silent=True)", "import sys; sys.stderr.write('a word')") == (0, b"", b"")


def test_a_filter_ends_it(tmp_path: Path) -> None:
    helpers = (
        "def die(records):\n    for record in records:\n        raise MutantEndsError('cannot parse')\n    yield {}"
    )
    assert ended(tmp_path, "Fault(records=(die,))", UNTIL_A_SIGNAL, helpers=helpers) == (1, b"", b"cannot parse\n")


def test_its_file_has_the_permissions_of_the_fault(tmp_path: Path) -> None:
    file = tmp_path / "output"
    code, out, _ = ended(tmp_path, "Fault(file_mode=0o644)", "print('a line')", output=str(file))
    assert (code, out, file.read_bytes()) == (0, b"", b"a line\n")
    assert file.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(("fault", "word"), [(NOTHING, b"!"), ("Fault(ready_at_once=lambda: True)", b"1")])
def test_it_says_that_it_is_ready(tmp_path: Path, fault: str, word: bytes) -> None:
    """Once the reference has closed the descriptor nobody has it open, while both go on."""
    reading, writing = os.pipe()
    program = (
        "import os, signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})\n"
        "fd = os.environ['TAPPER_HARNESS_READY_FD']\n"
        "if fd: os.write(int(fd), b'!'); os.close(int(fd))\nsignal.sigwait({signal.SIGTERM})"
    )
    with wrapped(tmp_path, fault, program, ready=writing) as process:
        os.close(writing)
        said = b""
        while select.select([reading], [], [], 30)[0] and (piece := os.read(reading, 10)):
            said += piece
        assert said == word
        assert select.select([reading], [], [], 0)[0], "the descriptor is still open somewhere"
        assert process.poll() is None
    os.close(reading)


def test_targets_are_filtered_at_every_update(tmp_path: Path) -> None:
    helpers = (
        "def halve(documents, tell):\n"
        "    for document in documents:\n"
        "        tell({'type': 'ack', 'generation': document['generation']})\n"
        "        yield document | {'pods': document['pods'][:1]}\n"
    )
    program = (
        "import os, signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})\n"
        "path = os.environ['TAPPER_HARNESS_TARGETS_FILE']\n"
        "print(open(path).read(), flush=True)\nsignal.sigwait({signal.SIGHUP})\nprint(open(path).read(), flush=True)"
    )
    targets = tmp_path / "targets.json"
    targets.write_text('{"generation": 1, "pods": [{"uid": "a"}, {"uid": "b"}]}')
    with wrapped(tmp_path, "Fault(targets=(halve,))", program, helpers=helpers) as process:
        assert process.stdout is not None
        first = [process.stdout.readline() for _ in range(2)]
        targets.write_text('{"generation": 2, "pods": [{"uid": "c"}, {"uid": "d"}]}')
        process.send_signal(signal.SIGHUP)
        rest = process.stdout.read().splitlines(keepends=True)
    ack, document = b'{"type": "ack", "generation": %d}\n', b'{"generation": %d, "pods": [{"uid": "%s"}]}\n'
    assert first == [ack % 1, document % (1, b"a")]
    assert rest == [ack % 2, document % (2, b"c")]
