"""Which pods are targets: addresses, and the names of the pods that have them where those are known."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tapper.targets.addresses import Address, parse_address


@dataclass(frozen=True, slots=True)
class PodName:
    """What Kubernetes calls a pod."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Targets:
    """What is to be captured."""

    addresses: frozenset[Address]
    names: Mapping[str, PodName] = field(default_factory=dict)
    """By address in its canonical spelling. An address that several pods share, as on the host's network, has none."""
    generation: int | None = None
    """The number of the list, to be acknowledged; None where nobody gave it one."""


def targets_of(pods: Iterable[tuple[PodName, Iterable[Address]]], generation: int | None = None) -> Targets:
    """All addresses of all the pods, each with the name of the one pod that has it."""
    addresses: set[Address] = set()
    names: dict[str, PodName] = {}
    shared: set[str] = set()
    for name, owned in pods:
        for address in owned:
            addresses.add(address)
            if names.setdefault(str(address), name) != name:
                shared.add(str(address))
    named = {address: name for address, name in names.items() if address not in shared}
    return Targets(frozenset(addresses), named, generation)


def union(parts: Iterable[Targets]) -> Targets:
    """What any of them names. An address that two of them call differently has no name; there is no generation."""
    names: dict[str, PodName] = {}
    shared: set[str] = set()
    addresses: frozenset[Address] = frozenset()
    for part in parts:
        addresses |= part.addresses
        for address, name in part.names.items():
            if names.setdefault(address, name) != name:
                shared.add(address)
    return Targets(addresses, {address: name for address, name in names.items() if address not in shared})


def parse_pods(text: str | bytes) -> Targets:
    """Read `{"generation": N, "pods": [{"uid": …, "namespace": …, "name": …, "ips": […]}]}`.

    This is the targets file of the adapter contract, version 1; unknown fields are allowed. Raises ValueError that says
    what is wrong, and where.
    """
    try:
        document = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:  # UnicodeDecodeError is one, too
        raise ValueError(f"it is not JSON: {error}") from None
    generation = _field(document, "generation", int, "it")
    pods: list[tuple[PodName, list[Address]]] = []
    for number, pod in enumerate(_field(document, "pods", list, "it")):
        where = f"pods[{number}]"
        name = PodName(_field(pod, "namespace", str, where), _field(pod, "name", str, where))
        pods.append((name, [_address(ip, where) for ip in _field(pod, "ips", list, where)]))
    return targets_of(pods, generation)


def _field(record: object, name: str, kind: type[Any], where: str) -> Any:
    if not isinstance(record, dict):
        raise ValueError(f"{where} is no object")
    value = record.get(name)
    if type(value) is not kind:  # a bool is an int to isinstance
        raise ValueError(f"{where} has no {name} that is {_NAMES[kind]}")
    return value


_NAMES = {int: "a whole number", list: "a list", str: "a text"}


def _address(ip: object, where: str) -> Address:
    try:
        return parse_address(ip if isinstance(ip, str) else "")
    except ValueError:
        raise ValueError(f"{ip!r} in the ips of {where} is not an IPv4 or IPv6 address") from None
