"""Where the mutants are: all of them, and one by its name."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib import import_module

from harness.conformance.mutants import wild
from harness.conformance.mutants.model import Mutant, several
from harness.errors import InternalError

_GROUPS = (
    "by_rule",
    "record_fields",
    "counts",
    "http",
    "http_segments",
    "http_unusual",
    "cap",
    "cap_strays",
    "edge",
    "life",
    "life_processes",
    "load",
    "netns",
    "own_tls",
    "sec",
    "sec_hostile",
    "pcap",
    "mesh",
    "world",
)
"""Around the reference."""
_INSIDE = ("inside.disc", "inside.disc_environ", "inside.capture", "inside.mesh", "inside.own_tls")
"""In it: these import the tapper, which costs a mutant that does not need it a tenth of a second."""


@cache
def all_mutants() -> dict[str, Mutant]:
    """By name. Raises `InternalError` for two of one name."""
    found: dict[str, Mutant] = {}
    for group in (*_GROUPS, *_INSIDE):
        for each in _of(group):
            if each.name in found:
                raise InternalError(f"there are two mutants {each.name}: give one of them another name")
            found[each.name] = each
    return found


def named(name: str) -> Mutant:
    """A mutant by its name, several at once (`outgoing-copy+not-443`), or a wild one (`drop+only-ipv6`).

    Raises KeyError.
    """
    if wild.is_wild(name):
        return wild.mutant(name)
    parts = name.split("+")
    if len(parts) > 1:
        return several([named(part) for part in parts])
    for group in (*_GROUPS, *_INSIDE):
        for each in _of(group):
            if each.name == name:
                return each
    raise KeyError(name)


def _of(group: str) -> Iterator[Mutant]:
    """The mutants that a module of this folder defines."""
    module = import_module(f"{__package__}.{group}")
    return (each for each in vars(module).values() if isinstance(each, Mutant))
