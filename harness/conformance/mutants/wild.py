"""Wild mutants: every rule of `rules` under every condition of `conditions`. Nobody made a case for any of them.

`drop+only-ipv6` leaves out the exchanges of IPv6 and is right about all others. Several conditions have to hold
together: `status+only-http2+from-5th-of-connection`. One that no case finds shows what the kit does not look at. Pure.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from harness.conformance.mutants.conditions import CONDITIONS, OF_EXCHANGES, flagged
from harness.conformance.mutants.model import Fault, Mutant
from harness.conformance.mutants.rules import RULES
from harness.conformance.mutants.streams import Record, RecordFilter, written

_BETWEEN = "+"
_COUNTING, _COUNTS = ("stat", "bye"), ("exchanges", "incomplete")


_OF_ANSWERS = (
    "halves",
    "no-answer",
    "former-answer",
    "swap",
    "answer-field",
    "fields-swapped",
    "answer-body",
    "spoilt-body",
    "body-size",
)
_IMPOSSIBLE: Mapping[str, Sequence[str]] = {
    "only-unanswered": (*_OF_ANSWERS, "lose-rest"),
    "only-refused": ("grpc-status",),
    "only-failed": ("grpc-status",),
    "only-empty": ("answer-body", "spoilt-body"),
    "only-http1": ("grpc-status",),
    "only-chunked": ("grpc-status",),
    "only-other-methods": ("grpc-status",),
}
"""Condition -> rules that change nothing under it, whatever is said: an answer that is not there, a body without a
byte, what follows a request whose connection ended before the answer, and gRPC, which is POST over HTTP/2, answered
with 200, and knows no Transfer-Encoding."""


def names() -> list[str]:
    """All combinations that can change a record."""
    return [joined(rule, condition) for rule in RULES for condition in CONDITIONS if _is_possible(rule, condition)]


def _is_possible(rule: str, condition: str) -> bool:
    of_other_records = RULES[rule].kind == "websocket" and condition in OF_EXCHANGES
    return not of_other_records and rule not in _IMPOSSIBLE.get(condition, ())


def joined(rule: str, condition: str) -> str:
    """The name of a rule under a condition."""
    return f"{rule}{_BETWEEN}{condition}"


def is_wild(name: str) -> bool:
    """Whether a name is that of a rule under a condition, or several."""
    rule, conditions = parts(name)
    return rule in RULES and bool(conditions) and CONDITIONS.keys() >= set(conditions)


def parts(name: str) -> tuple[str, list[str]]:
    """The names of the rule and the conditions."""
    rule, *conditions = name.split(_BETWEEN)
    return rule, conditions


def mutant(name: str) -> Mutant:
    """A combination as the kit runs it. Raises KeyError."""
    rule, conditions = parts(name)
    return Mutant(name, f"It {RULES[rule].words}: {', '.join(conditions)}.", {}, Fault(records=(_filter(name),)))


def sample(count: int, seed: int) -> list[str]:
    """So many combinations, all different, the same for the same seed; all of them where there are no more."""
    everything = names()
    if count >= len(everything):
        return everything
    return random.Random(seed).sample(everything, count)


def changes(name: str, run: Sequence[Record]) -> bool:
    """Whether the records of a run of the reference would be others. Another order alone is no fault."""
    before = [_uncounted(record) for record in run]
    after = list(_filter(name)(iter(run)))
    if len(after) != len(before):
        return True
    others = [(one, other) for one, other in zip(before, after, strict=True) if one != other]
    return Counter(written(one) for one, _ in others) != Counter(written(other) for _, other in others)


def reaches(condition: str, run: Iterable[Record]) -> bool:
    """Whether a condition holds anywhere in a run of the reference."""
    return any(map(flagged([CONDITIONS[condition]]), run))


def _filter(name: str) -> RecordFilter:
    rule, conditions = parts(name)

    def changed(records: Iterator[Record]) -> Iterator[Record]:
        in_fault = flagged([CONDITIONS[condition] for condition in conditions])
        return RULES[rule].change((_uncounted(record), in_fault(record)) for record in records)

    return changed


def _uncounted(record: Record) -> Record:
    """The record without counts of exchanges: those of the reference would tell what a filter has done."""
    return {name: value for name, value in record.items() if record["type"] not in _COUNTING or name not in _COUNTS}
