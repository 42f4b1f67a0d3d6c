"""What a mutant is, and where they all are."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from harness.adapters import contract
from harness.adapters.contract import Adapter
from harness.conformance import mutants
from harness.errors import InternalError

_SHIPPED = Path(__file__).resolve().parents[2] / "adapters" / "shipped"
_NO_GROUPS = ("model", "wild", "__main__")
PREFIX_OF_WILD = "wild-"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One defect."""

    name: str
    defect: str
    """What is wrong with it, in one sentence; often a real tapper's bug."""
    breaks: Mapping[str, str]
    """The cases that were made to find it -> a regular expression that the failure's sentence has to match."""
    apply: Callable[[], None]
    """Breaks the reference in this process, before it runs."""
    base: str = "reference"
    """The adapter that it breaks, by the name of its file."""
    claims: frozenset[contract.Feature] = frozenset()
    """What it claims besides what the reference claims."""

    def adapter(self) -> Adapter:
        """How the kit runs it."""
        reference = _shipped(self.base)
        return replace(
            reference,
            implementation=replace(reference.implementation, name=f"mutant {self.name}"),
            argv=(sys.executable, "-m", "harness.conformance.mutants", self.name),
            env=dict(reference.env) | {"PYTHONPATH": str(Path(__file__).resolve().parents[3])},
            claims=reference.claims | self.claims,
        )


@cache
def _shipped(name: str) -> Adapter:
    """Read once: it asks the tapper for its version."""
    return contract.load(_SHIPPED / f"{name}.toml")


@cache
def all_mutants() -> dict[str, Mutant]:
    """By name. Raises `InternalError` for two of one name."""
    found: dict[str, Mutant] = {}
    for module in iter_modules(mutants.__path__, mutants.__name__ + "."):
        if module.name.rpartition(".")[2] in _NO_GROUPS:
            continue
        for each in vars(import_module(module.name)).values():
            if isinstance(each, Mutant):
                if each.name in found:
                    raise InternalError(f"there are two mutants {each.name}")
                found[each.name] = each
    return found


def named(name: str) -> Mutant:
    """A mutant by its name, `wild-7` by its seed, or several at once: `outgoing-copy+not-443`. Raises KeyError."""
    if name.startswith(PREFIX_OF_WILD):
        from harness.conformance.mutants import wild  # noqa: PLC0415 - which needs this module

        return wild.mutant(int(name.removeprefix(PREFIX_OF_WILD)))
    several = [all_mutants()[each] for each in name.split("+")]
    if len(several) == 1:
        return several[0]

    def apply() -> None:
        for each in several:
            each.apply()

    return replace(
        several[0], name=name, defect=" ".join(each.defect for each in several), breaks=_together(several), apply=apply
    )


def _together(several: list[Mutant]) -> dict[str, str]:
    """What finds any of them; for which reason is open where defects meet."""
    return {case: "" for each in several for case in each.breaks}
