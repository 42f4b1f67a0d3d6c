"""Broken when Envoys come and go, in its output and at its end: filters over records and lines, and programs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

from harness.conformance.mutants import node
from harness.conformance.mutants.model import AtStop, Fault, Mutant
from harness.conformance.mutants.reasons import LOST, TOO_OFTEN
from harness.conformance.mutants.streams import Record

# -- Envoys that come and go ----------------------------------------------------------------------------------------


def _is_open(record: Record) -> bool:
    return node.opened_in_pod(record) is not None


def _unless(blind: Callable[[], Callable[[Record], bool]]) -> Fault:
    """Drops the `http` records of pods of which `blind` says so. It is asked about every record, in order."""

    def changed(records: Iterator[Record]) -> Iterator[Record]:
        is_blind = blind()
        for record in records:
            if not is_blind(record) or record["type"] != "http":
                yield record

    return Fault(records=(changed,))


def _looks_in_once() -> Callable[[Record], bool]:
    times: dict[int, int] = {}

    def is_blind(record: Record) -> bool:
        netns = record.get("netns")
        if _is_open(record):
            times[record["netns"]] = times.get(record["netns"], 0) + 1
        return netns is not None and times.get(netns, 0) > 1

    return is_blind


OPENS_ONCE = Mutant(
    "opens-once",
    "A pod that it has let go of, because its Envoy had ended, it never looks into again.",
    {"LIFE-05": "expected requests inside a pod whose Envoy was restarted"},
    _unless(_looks_in_once),
)


def _blind_without_procfs() -> Callable[[Record], bool]:
    return lambda _record: not (node.procfs() / "self").exists()


FAILED_LOOK = Mutant(
    "failed-look",
    "A look that fails ends in no Envoys, and closes every source.",
    {"LIFE-09": LOST},
    _unless(_blind_without_procfs),
)


def _dies_with_the_first() -> Callable[[Record], bool]:
    finders: dict[int, int] = {}

    def is_blind(record: Record) -> bool:
        if _is_open(record):
            finders.setdefault(record["netns"], record["pid"])
        finder = finders.get(record.get("netns") or 0)
        return finder is not None and not node.is_running(finder)

    return is_blind


DIES_WITH_THE_FIRST = Mutant(
    "dies-with-the-first",
    "A pod's source ends with the process by which it was found, whoever else is there.",
    {"LIFE-11": f'{LOST}|a request inside pod "server"'},
    _unless(_dies_with_the_first),
)


def _where_it_was() -> Callable[[Record], bool]:
    homes: dict[str, int] = {}
    elsewhere: set[int] = set()

    def is_blind(record: Record) -> bool:
        if _is_open(record) and homes.setdefault(record["instance_ip"], record["netns"]) != record["netns"]:
            elsewhere.add(record["netns"])
        return record.get("netns") in elsewhere

    return is_blind


WHERE_IT_WAS = Mutant(
    "where-it-was",
    "It remembers in which namespace an address was, and looks for it nowhere else.",
    {"LIFE-16": "expected requests inside a pod that has the address"},
    _unless(_where_it_was),
)


def _remember_pids() -> Callable[[Record], bool]:
    known: dict[int, int] = {}
    mistaken: set[int] = set()

    def is_blind(record: Record) -> bool:
        if _is_open(record) and known.setdefault(record["pid"], record["netns"]) != record["netns"]:
            mistaken.add(record["netns"])
        return record.get("netns") in mistaken

    return is_blind


REMEMBERS_PIDS = Mutant(
    "remembers-pids",
    "What it once knew of a process id it believes of every later process of that number.",
    {"NETNS-05": "expected a request inside pod"},
    _unless(_remember_pids),
)


def _tell_again(records: Iterator[Record]) -> Iterator[Record]:
    told: list[Record] = []
    opened: set[int] = set()
    for record in records:
        yield record
        if record["type"] == "http":
            told.append(record)
        elif _is_open(record):
            if record["netns"] in opened:
                yield from [each for each in told if each["netns"] == record["netns"]]
            opened.add(record["netns"])


TELLS_AGAIN = Mutant(
    "tells-again",
    "When it looks into a pod again it reports what it had seen there before once more.",
    {"LIFE-05": TOO_OFTEN},
    Fault(records=(_tell_again,)),
)

# -- output and end -------------------------------------------------------------------------------------------------


def _chat(lines: Iterator[bytes]) -> Iterator[bytes]:
    yield b"Capturing on lo\n"
    yield from lines


CHATTY = Mutant(
    "chatty",
    "It writes a line for people into its output.",
    {"LIFE-10": "a line that is no record"},
    Fault(lines=(_chat,)),
)


def _cut_the_last_line(lines: Iterator[bytes]) -> Iterator[bytes]:
    for line in lines:
        yield line[:-9] if b'"type": "bye"' in line or b'"type":"bye"' in line else line


LAST_LINE_CUT = Mutant(
    "last-line-cut",
    "The end of what it has to say is lost when it is stopped.",
    {"LIFE-10": "the last line has no end"},
    Fault(lines=(_cut_the_last_line,)),
)
NOT_DRAINED = Mutant(
    "not-drained",
    "When it is stopped it does not read what the kernel has already captured.",
    {"LIFE-06": LOST},
    Fault(at_stop=AtStop.KILL),
)
IGNORES_STOP = Mutant(
    "ignores-stop",
    "It does not end when it is asked to.",
    {"LIFE-06": "it had to be killed"},
    Fault(at_stop=AtStop.IGNORE),
)


def _leave_a_child() -> None:
    program = "import signal; signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals()); signal.pause()"
    subprocess.Popen([sys.executable, "-I", "-S", "-c", program], stdout=subprocess.DEVNULL, start_new_session=True)


LEAVES_A_CHILD = Mutant(
    "leaves-a-child",
    "A process that it has started goes on after its end.",
    {"LIFE-06": "no process left behind"},
    Fault(begin=(_leave_a_child,)),
)
ENDS_IN_ERROR = Mutant(
    "ends-in-error",
    "It ends with an error when it is stopped.",
    {"LIFE-06": "an end without an error"},
    Fault(exit_code=1),
)
