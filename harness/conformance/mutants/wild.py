"""Wild mutants: every rule of `rules` under every condition of `conditions`. Nobody made a case for any of them.

`drop+only-ipv6` leaves out the exchanges of IPv6 and is right about all others. One that no case finds shows what the
kit does not look at. Pure.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from harness.conformance.mutants.conditions import CONDITIONS, Condition, flagged
from harness.conformance.mutants.model import Fault, Mutant
from harness.conformance.mutants.rules import RULES, Rule
from harness.conformance.mutants.streams import Record, RecordFilter, written

_BETWEEN = "+"


def names() -> list[str]:
    """All combinations."""
    return [joined(rule, condition) for rule in RULES for condition in CONDITIONS]


def joined(rule: str, condition: str) -> str:
    """The name of a rule under a condition."""
    return f"{rule}{_BETWEEN}{condition}"


def is_wild(name: str) -> bool:
    """Whether a name is that of a rule under a condition."""
    rule, _, condition = name.partition(_BETWEEN)
    return rule in RULES and condition in CONDITIONS


def parts(name: str) -> tuple[str, str]:
    """The names of the rule and the condition."""
    rule, _, condition = name.partition(_BETWEEN)
    return rule, condition


def mutant(name: str) -> Mutant:
    """A combination as the kit runs it. Raises KeyError."""
    rule, condition = parts(name)
    fault = Fault(records=(_filter(RULES[rule], CONDITIONS[condition]),))
    return Mutant(name, f"It {RULES[rule].words}: {condition}.", {}, fault)


def sample(count: int, seed: int) -> list[str]:
    """So many combinations, all different, the same for the same seed; all of them where there are no more."""
    everything = names()
    if count >= len(everything):
        return everything
    return random.Random(seed).sample(everything, count)


def changes(name: str, run: Sequence[Record]) -> bool:
    """Whether the records of a run of the reference would be others. Another order alone is no fault."""
    rule, condition = parts(name)
    changed = _filter(RULES[rule], CONDITIONS[condition])(iter(run))
    return Counter(map(written, changed)) != Counter(map(written, run))


def reaches(condition: str, run: Iterable[Record]) -> bool:
    """Whether a condition holds anywhere in a run of the reference."""
    return any(map(flagged(CONDITIONS[condition]), run))


def _filter(rule: Rule, condition: Condition) -> RecordFilter:
    def changed(records: Iterator[Record]) -> Iterator[Record]:
        in_fault = flagged(condition)
        return rule.change((record, in_fault(record)) for record in records)

    return changed
