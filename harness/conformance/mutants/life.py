"""Broken in a tapper's beginning and in following its targets: filters over the list of targets, words said early."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from harness.conformance.mutants import node
from harness.conformance.mutants.model import Fault, Mutant, TargetsDocument, Tell
from harness.conformance.mutants.reasons import AS_MANY_HANDLES, LOST, TOO_MUCH, UNFOUND
from harness.conformance.mutants.streams import Record

_QUIET_S = 2.0
_LATER_S = 1.5
_BETWEEN_S = 0.3
_STARTS = Path("/run/starts-of-a-mutant")  # in the node's own memory
_UNFOUND_LATER = "expected requests inside a pod"


def _third_start() -> bool:
    with _STARTS.open("a+") as starts:
        starts.write("x")
        starts.seek(0)
        return len(starts.read()) == 3


READY_TOO_EARLY = Mutant(
    "ready-too-early",
    "It says that it is ready when it begins to look for its targets.",
    {"LIFE-01": LOST},
    Fault(ready_at_once=lambda: True),
)
READY_BY_LUCK = Mutant(
    "ready-by-luck",
    "It says that it is ready before it is, once in three starts.",
    {"LIFE-01": LOST},
    Fault(ready_at_once=_third_start),
)


# -- which targets ---------------------------------------------------------------------------------------------------


def _addresses(document: TargetsDocument) -> frozenset[str]:
    return frozenset(address for pod in document["pods"] for address in pod["ips"])


def _only(document: TargetsDocument, addresses: frozenset[str]) -> TargetsDocument:
    """Pods with other addresses than these are left out."""
    return document | {"pods": [pod for pod in document["pods"] if addresses & set(pod["ips"])]}


def _add_nothing(documents: Iterator[TargetsDocument], _tell: Tell) -> Iterator[TargetsDocument]:
    known: frozenset[str] | None = None
    for document in documents:
        known = _addresses(document) if known is None else known & _addresses(document)
        yield _only(document, known)


ADDS_NOTHING = Mutant(
    "adds-nothing",
    "Targets that are added while it runs are not looked for.",
    {"LIFE-02": _UNFOUND_LATER},
    Fault(targets=(_add_nothing,)),
)


def _remove_nothing(documents: Iterator[TargetsDocument], _tell: Tell) -> Iterator[TargetsDocument]:
    pods: dict[str, TargetsDocument] = {}
    for document in documents:
        pods |= {pod["uid"]: pod for pod in document["pods"]}
        yield document | ({"pods": list(pods.values())} if document["pods"] else {})


REMOVES_NOTHING = Mutant(
    "removes-nothing",
    "It never lets go of a target that is removed.",
    {"LIFE-03": 'expected silence about pod "removed"'},
    Fault(targets=(_remove_nothing,)),
)


def _ignore_empty(documents: Iterator[TargetsDocument], _tell: Tell) -> Iterator[TargetsDocument]:
    pods: list[TargetsDocument] = []
    for document in documents:
        pods = document["pods"] or pods
        yield document | {"pods": pods}


def _without_acks(records: Iterator[Record]) -> Iterator[Record]:
    return (record for record in records if record["type"] != "ack")


EMPTY_IGNORED = Mutant(
    "empty-ignored",
    "It takes an empty list of targets for none at all, and stays with the one of before.",
    {"LIFE-04": 'expected silence about pod "former"'},
    Fault(targets=(_ignore_empty,), records=(_without_acks,)),
)


def _empty_is_all(documents: Iterator[TargetsDocument], _tell: Tell) -> Iterator[TargetsDocument]:
    for document in documents:
        addresses = [] if document["pods"] else sorted({each.address for each in node.envoys() if each.address})
        everybody = [{"uid": each, "namespace": "default", "name": each, "ips": [each]} for each in addresses]
        yield document | {"pods": document["pods"] or everybody}


EMPTY_IS_ALL = Mutant(
    "empty-is-all",
    "It takes an empty list of targets for everybody.",
    {"LIFE-04": 'expected silence about pod "former"', "LIFE-13": "expected nothing of anybody"},
    Fault(targets=(_empty_is_all,)),
)


def _first_address_only(documents: Iterator[TargetsDocument], _tell: Tell) -> Iterator[TargetsDocument]:
    for document in documents:
        yield document | {"pods": [pod | {"ips": pod["ips"][:1]} for pod in document["pods"]]}


FIRST_ADDRESS = Mutant(
    "first-address",
    "It knows a pod by the first of its addresses only.",
    {"DISC-09": UNFOUND},
    Fault(targets=(_first_address_only,)),
)

# -- when ------------------------------------------------------------------------------------------------------------


def _begin_anew(documents: Iterator[TargetsDocument], _tell: Tell) -> Iterator[TargetsDocument]:
    yield next(documents)
    for document in documents:
        yield document | {"pods": []}
        threading.Event().wait(_BETWEEN_S)  # the defect: nothing is captured meanwhile
        yield document


BEGINS_ANEW = Mutant(
    "begins-anew",
    "At every update it closes all that is open, and opens it again.",
    {"LIFE-12": "each of 60 requests"},
    Fault(targets=(_begin_anew,)),
)


def _not_so_fast(documents: Iterator[TargetsDocument], _tell: Tell) -> Iterator[TargetsDocument]:
    before = 0.0
    for document in documents:
        now = time.monotonic()
        if now - before >= _QUIET_S:
            yield document
        before = now


NOT_SO_FAST = Mutant(
    "not-so-fast",
    "A list of targets that comes right after another one it passes over.",
    {"LIFE-14": "expected requests inside a pod that is on the last list"},
    Fault(targets=(_not_so_fast,)),
)


def _acknowledge_first(documents: Iterator[TargetsDocument], tell: Tell) -> Iterator[TargetsDocument]:
    yield next(documents)
    for document in documents:
        tell({"type": "ack", "generation": document["generation"]})
        threading.Event().wait(_LATER_S)  # the defect: what it says is not so yet
        yield document


ACKNOWLEDGES_FIRST = Mutant(
    "acknowledges-first",
    "It acknowledges a list of targets when it has read it, and does what it says a moment later.",
    {"LIFE-15": f"{LOST}|{TOO_MUCH}"},
    Fault(targets=(_acknowledge_first,)),
)

# -- what stays open -------------------------------------------------------------------------------------------------


def _leak_files(documents: Iterator[TargetsDocument], _tell: Tell) -> Iterator[TargetsDocument]:
    for document in documents:
        os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        yield document


LEAKS_FILES = Mutant(
    "leaks-files",
    "It opens a file at every update, and never closes it.",
    {"LIFE-07": AS_MANY_HANDLES},
    Fault(targets=(_leak_files,)),
)


def _leak_threads(documents: Iterator[TargetsDocument], _tell: Tell) -> Iterator[TargetsDocument]:
    for document in documents:
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        yield document


LEAKS_THREADS = Mutant(
    "leaks-threads",
    "It starts a thread at every update that never ends.",
    {"LIFE-07": AS_MANY_HANDLES},
    Fault(targets=(_leak_threads,)),
)


def _open_for_each_address(documents: Iterator[TargetsDocument], _tell: Tell) -> Iterator[TargetsDocument]:
    known: set[str] = set()
    for document in documents:
        for _ in _addresses(document) - known:
            os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        known |= _addresses(document)
        yield document


OPEN_FOR_EACH_ADDRESS = Mutant(
    "open-for-each-address",
    "It keeps a descriptor for every address that was ever a target.",
    {"LIFE-07": AS_MANY_HANDLES},
    Fault(targets=(_open_for_each_address,)),
)
