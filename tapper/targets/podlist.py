"""The pods of a list and of the watch events after it: a state machine without a network.

Kubernetes hands out a list with a resource version, and from that version on a stream of events, each with a version of
its own (Kubernetes API concepts, "Efficient detection of changes"). ADDED and MODIFIED carry the whole pod, DELETED
its last state; a pod that has left the selection comes as DELETED, too. A BOOKMARK carries only a version. An ERROR
ends the stream; its code 410 says that the server no longer knows the version, so that a fresh list is needed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tapper.errors import KubernetesError
from tapper.targets.addresses import Address, parse_address
from tapper.targets.pods import PodName, member

MOST_PODS = 10_000
"""Pods of one list. A node has 110 by default; Kubernetes is tested with up to 500 on large nodes."""
_MOST_NOTES = 100
_LONGEST_MESSAGE = 1000  # characters
_OVER = ("Succeeded", "Failed")
"""Phases of pods whose processes have ended. Another pod may have their addresses already."""


class ApiError(KubernetesError):
    """The API server refuses, or its answer is missing or useless. `status` is the HTTP status of a refusal, else 0."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message[:_LONGEST_MESSAGE])
        self.status = status


@dataclass(frozen=True, slots=True)
class TargetPod:
    """A pod that is a target."""

    name: PodName
    addresses: frozenset[Address]
    """All of its podIPs; at least one."""


class PodList:
    """The targets among the pods that the server selects. `wanted` is searched for in each pod's name."""

    def __init__(self, wanted: re.Pattern[str] | None = None) -> None:
        self._wanted = wanted
        self._pods: dict[str, TargetPod] = {}
        self.version: str | None = None
        """The resource version at which a watch is to begin; None where a fresh list is needed."""
        self.notes: dict[str, str] = {}
        """Sentences to tell a person once, each by its subject."""

    @property
    def pods(self) -> frozenset[TargetPod]:
        return frozenset(self._pods.values())

    def replace(self, items: Iterable[object], version: str) -> None:
        """Take a complete list. Raises ValueError, and keeps the old list, where an item is no pod."""
        read = [self._read(item) for item in items]
        self._pods = {uid: pod for uid, pod in read if pod is not None}
        self.version = version

    def apply(self, line: str | bytes) -> None:
        """Take one event. Raises ApiError for an ERROR event, and ValueError for anything that is no event of pods."""
        try:
            event = json.loads(line)
        except RecursionError:
            raise ValueError("an event is nested too deeply") from None
        kind, item = member(event, "type", str, "an event"), member(event, "object", dict, "an event")
        if kind == "ERROR":
            code, message = item.get("code"), item.get("message")
            raise ApiError(code if isinstance(code, int) else 0, str(message))
        metadata = member(item, "metadata", dict, "a pod")
        version = member(metadata, "resourceVersion", str, "a pod")
        if kind in ("ADDED", "MODIFIED"):
            uid, pod = self._read(item)
            self._pods.pop(uid, None)
            if pod is not None:
                self._pods[uid] = pod
        elif kind == "DELETED":
            self._pods.pop(member(metadata, "uid", str, "a pod"), None)
        elif kind != "BOOKMARK":
            raise ValueError(f"an event has the unknown type {kind!r}")
        if len(self._pods) > MOST_PODS:
            raise ValueError(f"it names more than {MOST_PODS} pods of one node")
        self.version = version

    def _read(self, item: object) -> tuple[str, TargetPod | None]:
        """A pod's uid, and the pod if it is a target."""
        metadata = member(item, "metadata", dict, "a pod")
        uid = member(metadata, "uid", str, "a pod")
        name = PodName(member(metadata, "namespace", str, "a pod"), member(metadata, "name", str, "a pod"))
        spec, status = member(item, "spec", dict, "a pod"), member(item, "status", dict, "a pod")
        if self._wanted is not None and not self._wanted.search(name.name):
            return uid, None
        if status.get("phase") in _OVER:
            return uid, None
        if spec.get("hostNetwork") is True:
            self._note(
                "hostNetwork",
                f"the pod {name.namespace}/{name.name} is on the host's network and left out, as others like it are: "
                "its addresses are the node's, and all of the node's traffic would be captured",
            )
            return uid, None
        read = [self._address(ip, name) for ip in _ips(status)]
        addresses = frozenset(address for address in read if address is not None)
        return uid, TargetPod(name, addresses) if addresses else None

    def _address(self, text: str, name: PodName) -> Address | None:
        try:
            return parse_address(text)
        except ValueError:
            where = f"{name.namespace}/{name.name}"
            self._note(
                f"{where} {text}", f"{text!r}, of the pod {where}, is no address that a packet can have: it is left out"
            )
            return None

    def _note(self, subject: str, note: str) -> None:
        if len(self.notes) < _MOST_NOTES:
            self.notes.setdefault(subject, note)


def _ips(status: dict[str, Any]) -> list[str]:
    """podIPs, whose first is podIP. Servers before Kubernetes 1.16 send podIP alone."""
    listed = status.get("podIPs")
    if listed:
        return [member(entry, "ip", str, "one of a pod's podIPs") for entry in listed]
    return [member(status, "podIP", str, "a pod's status")] if status.get("podIP") else []
