"""Wild mutants: every rule of `rules` under every condition of `conditions`. Nobody made a case for any of them.

`drop+only-ipv6` leaves out the exchanges of IPv6 and is right about all others. Several conditions have to hold
together: `status+only-http2+from-5th-of-connection`. One that no case finds shows what the kit does not look at. Pure.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from harness.conformance.mutants.conditions import CONDITIONS, flagged
from harness.conformance.mutants.model import Fault, Mutant
from harness.conformance.mutants.rules import RULES
from harness.conformance.mutants.streams import Record, RecordFilter, written

_BETWEEN = "+"
_COUNTING, _COUNTS = ("stat", "bye"), ("exchanges", "incomplete")


def names() -> list[str]:
    """All combinations."""
    return [joined(rule, condition) for rule in RULES for condition in CONDITIONS]


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
    changed = _filter(name)(iter(run))
    return Counter(map(written, changed)) != Counter(written(_uncounted(record)) for record in run)


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
