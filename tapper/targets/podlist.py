"""What a list of pods and the events after it come to: a state machine without a network.

Kubernetes hands out a list with a resource version, and from that version on a stream of events, each with a version of
its own (Kubernetes API concepts, "Efficient detection of changes"). ADDED and MODIFIED carry the whole pod, DELETED
its last state, and also a pod that has left the selection comes as DELETED. A BOOKMARK carries nothing but a version.
An ERROR ends the stream; with code 410 the version is older than what the server remembers: only a fresh list helps.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tapper.targets.addresses import Address, parse_address
from tapper.targets.pods import PodName

_OVER = ("Succeeded", "Failed")
"""Phases of pods whose processes are gone, and whose addresses may be another pod's already."""


class WatchError(Exception):
    """The server has ended a watch with an ERROR event; `code` is an HTTP status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that is a target."""

    name: PodName
    addresses: frozenset[Address]
    """All of its podIPs; at least one."""


class PodList:
    """The pods that are targets, of those that the server selects. `wanted` is searched for in a pod's name."""

    def __init__(self, wanted: re.Pattern[str] | None = None) -> None:
        self._wanted = wanted
        self._pods: dict[str, Pod] = {}
        self.version: str | None = None
        """Where a watch is to begin; None where only a fresh list helps."""
        self.notes: dict[str, str] = {}
        """What a person should be told once: a sentence by what it is about."""

    @property
    def pods(self) -> frozenset[Pod]:
        return frozenset(self._pods.values())

    def replace(self, items: Iterable[object], version: str) -> None:
        """Take a complete list. Raises ValueError, and keeps the old one, where an item is no pod."""
        found = {}
        for item in items:
            uid, pod = self._read(item)
            if pod is not None:
                found[uid] = pod
        self._pods, self.version = found, version

    def apply(self, line: str | bytes) -> None:
        """Take one event. Raises WatchError for an ERROR, and ValueError for what is no event of pods."""
        try:
            event = json.loads(line)
        except RecursionError:
            raise ValueError("an event is nested too deeply") from None
        kind, item = _get(event, "type", str), _get(event, "object", dict)
        if kind == "ERROR":
            code, message = item.get("code"), item.get("message")
            raise WatchError(code if isinstance(code, int) else 0, str(message))
        version = _get(_get(item, "metadata", dict), "resourceVersion", str)
        if kind in ("ADDED", "MODIFIED"):
            uid, pod = self._read(item)
            if pod is None:
                self._pods.pop(uid, None)
            else:
                self._pods[uid] = pod
        elif kind == "DELETED":
            self._pods.pop(_get(item["metadata"], "uid", str), None)
        elif kind != "BOOKMARK":
            raise ValueError(f"an event has the unknown type {kind!r}")
        self.version = version

    def _read(self, item: object) -> tuple[str, Pod | None]:
        """A pod's uid, and the pod if it is a target."""
        metadata = _get(item, "metadata", dict)
        uid = _get(metadata, "uid", str)
        name = PodName(_get(metadata, "namespace", str), _get(metadata, "name", str))
        spec, status = _get(item, "spec", dict), _get(item, "status", dict)
        if self._wanted is not None and not self._wanted.search(name.name):
            return uid, None
        if status.get("phase") in _OVER:
            return uid, None
        if spec.get("hostNetwork") is True:
            self.notes.setdefault(
                "hostNetwork",
                f"the pod {name.namespace}/{name.name} is on the host's network and left out, as others like it are: "
                "its addresses are the node's, and all of the node's traffic would be captured",
            )
            return uid, None
        read = [self._address(ip, name) for ip in _ips(status)]
        addresses = frozenset(address for address in read if address is not None)
        return uid, Pod(name, addresses) if addresses else None

    def _address(self, text: str, name: PodName) -> Address | None:
        try:
            return parse_address(text)
        except ValueError:
            where = f"{name.namespace}/{name.name}"
            self.notes.setdefault(
                f"{where} {text}", f"{text!r}, of the pod {where}, is no address that a packet can have: it is left out"
            )
            return None


def _ips(status: dict[str, Any]) -> list[str]:
    """podIPs, which begins with podIP; a server that knows no podIPs (before 1.16) has only that."""
    listed = status.get("podIPs")
    if listed:
        return [_get(entry, "ip", str) for entry in listed]
    return [status["podIP"]] if status.get("podIP") else []


def _get(record: object, name: str, kind: type[Any]) -> Any:
    value = record.get(name) if isinstance(record, dict) else None
    if not isinstance(value, kind):
        raise ValueError(f"an object that should be a pod has no {name}")
    return value
