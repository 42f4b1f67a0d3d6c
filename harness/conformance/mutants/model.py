"""What a mutant is: a name, a defect, the cases that were made to find it, and a fault that makes the reference so."""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from harness.conformance.mutants.packets import PacketFilter
from harness.conformance.mutants.streams import LineFilter, Record, RecordFilter

if TYPE_CHECKING:
    from harness.adapters.contract import Adapter

_REPOSITORY = Path(__file__).resolve().parents[3]
_OF_PACKETS = (
    "packets",
    "discovery.envoy",
    "discovery.linkerd",
    "targets.dynamic",
    "ipv6",
    "pod_identity",
    "drop_counters",
)
"""What the reference can claim where it writes packets."""

TargetsDocument: TypeAlias = dict[str, Any]
"""The contract's targets file: `{"generation": N, "pods": [{"uid", "namespace", "name", "ips"}]}`."""
Tell: TypeAlias = Callable[[Record], None]
"""Writes a record into the mutant's output."""
TargetsFilter: TypeAlias = Callable[[Iterator[TargetsDocument], Tell], Iterator[TargetsDocument]]
"""Gets each document that the kit writes, and yields those that the reference gets."""


class MutantEndsError(Exception):
    """A filter raises it to end the mutant, as a tapper dies of an error; the text is its last word."""


class AtStop(enum.Enum):
    """The behaviour of a mutant when it is asked to end."""

    PASS_ON = enum.auto()
    IGNORE = enum.auto()
    KILL = enum.auto()
    """It kills the reference, which then writes nothing more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """How a tapper is made wrong: around the reference, by what goes in and comes out, or inside it by `patches`.

    Every field but `patches` uses nothing but the adapter contract, the tapper's command line and its documented
    output, so that a change inside the tapper breaks none of them.
    """

    records: tuple[RecordFilter, ...] = ()
    """Over the records that it writes; the first is the nearest to the reference."""
    lines: tuple[LineFilter, ...] = ()
    """Over the lines that it writes, after `records`."""
    packets: tuple[PacketFilter, ...] = ()
    """Over the packets that the reference captures (`-o pcapng`), before a second one reads them (`-r -`)."""
    writes_packets: bool = False
    """Whether the mutant itself writes the packets, after `packets`, and no records."""
    targets: tuple[TargetsFilter, ...] = ()
    """Over the documents of the targets file."""
    options: tuple[str, ...] = ()
    """Further options of the reference."""
    environ: Mapping[str, str] = field(default_factory=dict)
    """Other values for variables of the contract."""
    begin: tuple[Callable[[], object], ...] = ()
    """Called before the reference is started, in the mutant's own process."""
    ready_at_once: Callable[[], bool] | None = None
    """Whether to say at the start that it is ready, and not when the reference says so."""
    at_stop: AtStop = AtStop.PASS_ON
    exit_code: int | None = None
    """In place of the reference's."""
    silent: bool = False
    """Its standard error goes nowhere."""
    file_mode: int = 0o600
    """The permissions of the output file, where there is one."""
    patches: tuple[Callable[[], None], ...] = ()
    """Replace public names of the tapper in the reference's process, before it runs."""

    def outside(self) -> bool:
        """Whether there is anything to do around the reference."""
        return replace(self, patches=()) != Fault()


def together(faults: Sequence[Fault]) -> Fault:
    """Several faults at once. Where only one value can be, the last that is said counts."""
    nothing = Fault()

    def last(name: str) -> Any:
        said = [value for fault in faults if (value := getattr(fault, name)) != getattr(nothing, name)]
        return said[-1] if said else getattr(nothing, name)

    def joined(name: str) -> Any:
        return tuple(part for fault in faults for part in getattr(fault, name))

    return Fault(
        **{name: joined(name) for name in ("records", "lines", "packets", "targets", "options", "begin", "patches")},
        **{
            name: last(name)
            for name in ("writes_packets", "ready_at_once", "at_stop", "exit_code", "silent", "file_mode")
        },
        environ={name: value for fault in faults for name, value in fault.environ.items()},
    )


@dataclass(frozen=True, slots=True)
class Mutant:
    """One wrong tapper."""

    name: str
    defect: str
    """The mutant's fault, in one sentence; often the bug of a real tapper."""
    breaks: Mapping[str, str]
    """The cases that were made to find it -> a regular expression that the failure's sentence has to match."""
    fault: Fault
    base: str = "reference"
    """The adapter that it breaks, by the name of its file."""
    claims: frozenset[str] = frozenset()
    """Features that it claims besides what the reference claims."""

    def adapter(self) -> Adapter:
        """How the kit runs it."""
        from harness.adapters.contract import Feature  # noqa: PLC0415 - a mutant's own process needs none of this

        reference = _shipped(self.base)
        if self.fault.writes_packets:
            reference = replace(reference, format="pcapng", claims=frozenset(map(Feature, _OF_PACKETS)))
        return replace(
            reference,
            implementation=replace(reference.implementation, name=f"mutant {self.name}"),
            argv=(sys.executable, "-m", "harness.conformance.mutants", self.name),
            env=dict(reference.env) | {"PYTHONPATH": str(_REPOSITORY)},
            claims=reference.claims | {Feature(claim) for claim in self.claims},
        )


@cache
def _shipped(name: str) -> Adapter:
    """Read once: it asks the tapper for its version."""
    from harness.adapters import contract  # noqa: PLC0415 - as above

    return contract.load(_REPOSITORY / "harness" / "adapters" / "shipped" / f"{name}.toml")


def several(mutants: Iterable[Mutant]) -> Mutant:
    """One mutant with the defects of several. For which reason it is found is open where defects meet."""
    parts = list(mutants)
    return replace(
        parts[0],
        name="+".join(each.name for each in parts),
        defect=" ".join(each.defect for each in parts),
        breaks={case: "" for each in parts for case in each.breaks},
        fault=together([each.fault for each in parts]),
        claims=frozenset(claim for each in parts for claim in each.claims),
    )
