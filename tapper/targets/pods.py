"""Targets: addresses, and the names of the pods that have them where the names are known."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tapper.targets.addresses import Address, parse_address


@dataclass(frozen=True, slots=True)
class PodName:
    """A pod's name in Kubernetes."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Targets:
    """The addresses whose traffic is captured."""

    addresses: frozenset[Address]
    names: Mapping[str, PodName] = field(default_factory=dict)
    """By address in its canonical spelling, without the addresses that several pods share, as on the host's network."""
    generation: int | None = None
    """The number of the list, which an `ack` record repeats; None where the list has no number."""


def targets_of(pods: Iterable[tuple[PodName, Iterable[Address]]], generation: int | None = None) -> Targets:
    """All addresses of the pods, each with the name of the one pod that has it."""
    pairs = [(address, name) for name, addresses in pods for address in addresses]
    names = _unambiguous((str(address), name) for address, name in pairs)
    return Targets(frozenset(address for address, _ in pairs), names, generation)


def union(parts: Iterable[Targets]) -> Targets:
    """The targets of all parts, without a generation. An address to which two parts give different names has none."""
    parts = list(parts)
    addresses = frozenset(address for part in parts for address in part.addresses)
    return Targets(addresses, _unambiguous(pair for part in parts for pair in part.names.items()))


def _unambiguous(pairs: Iterable[tuple[str, PodName]]) -> dict[str, PodName]:
    """The names by address, without the addresses that have several names."""
    names: dict[str, PodName] = {}
    shared: set[str] = set()
    for address, name in pairs:
        if names.setdefault(address, name) != name:
            shared.add(address)
    return {address: name for address, name in names.items() if address not in shared}


def parse_in_steps(text: str | bytes) -> Iterator[Targets | None]:
    """Read `{"generation": N, "pods": [{"uid": …, "namespace": …, "name": …, "ips": […]}]}`, in steps, so that a large
    list does not hold up its reader: yields None some times, then the targets.

    This is the targets file of the adapter contract, version 1; other members are allowed. Raises ValueError that says
    what is wrong, and where.
    """
    try:
        document = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:  # UnicodeDecodeError is a ValueError, too
        raise ValueError(f"it is not JSON: {error}") from None
    generation = member(document, "generation", int, "it")
    pods: list[tuple[PodName, list[Address]]] = []
    for number, pod in enumerate(member(document, "pods", list, "it")):
        if number % _STEP == _STEP - 1:
            yield None
        where = f"pods[{number}]"
        name = PodName(member(pod, "namespace", str, where), member(pod, "name", str, where))
        pods.append((name, [_address(ip, where) for ip in member(pod, "ips", list, where)]))
    yield None
    yield targets_of(pods, generation)


def member(record: object, name: str, kind: type[Any], where: str) -> Any:
    """A member of a JSON object. Raises ValueError, which says `where`, unless it exists and has exactly this type.

    JSON can name single surrogates (RFC 8259 section 8.2), which no output can encode: U+FFFD stands for each."""
    if not isinstance(record, dict):
        raise ValueError(f"{where} is no object")
    value: Any = record.get(name)
    if type(value) is not kind:  # isinstance takes a bool for an int
        raise ValueError(f"{where} has no {name} that is {_NAMES[kind]}")
    return _SURROGATES.sub("\ufffd", value) if kind is str else value


_STEP = 1000
_SURROGATES = re.compile("[\ud800-\udfff]")
_NAMES = {dict: "an object", int: "a whole number", list: "a list", str: "a text"}


def _address(ip: object, where: str) -> Address:
    try:
        return parse_address(ip if isinstance(ip, str) else "")
    except ValueError:
        raise ValueError(f"{ip!r} in the ips of {where} is not an IPv4 or IPv6 address") from None
