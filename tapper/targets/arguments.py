"""The command line's options about pods of Kubernetes, and what they mean."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tapper.errors import UsageError

if TYPE_CHECKING:
    from tapper.targets.kubernetes import KubernetesFeed

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")  # RFC 1123, as namespaces' names are


def add_kubernetes(parser: argparse.ArgumentParser) -> None:
    """Add the options that `kubernetes_feed` reads."""
    group = parser.add_argument_group(
        "targets from Kubernetes",
        "The pods of one node for which each of these holds, followed as they come and go, on top of other targets.",
    )
    group.add_argument(
        "--namespace", action="append", default=[], metavar="NS", help="may be repeated (default: the current one)"
    )
    group.add_argument("--all-namespaces", action="store_true", help="pods of any namespace")
    group.add_argument("--pod-regex", metavar="RE", help="found anywhere in the pod's name; Python's syntax")
    group.add_argument("--selector", metavar="SEL", help="a label selector, as kubectl has it: app=cart,tier!=test")
    group.add_argument(
        "--node-name", metavar="NODE", help="whose pods (default: the environment's NODE_NAME, by the downward API)"
    )
    group.add_argument(
        "--kubeconfig", metavar="FILE", help="default: this pod's service account, else as kubectl finds it"
    )
    group.add_argument("--context", metavar="NAME", help="one of the kubeconfig's contexts (default: its current one)")


def asks_kubernetes(arguments: argparse.Namespace) -> bool:
    """Whether any pods are asked for. Raises UsageError where the other options are given alone."""
    if arguments.namespace or arguments.all_namespaces or arguments.pod_regex is not None or arguments.selector:
        return True
    if any(value is not None for value in (arguments.node_name, arguments.kubeconfig, arguments.context)):
        raise UsageError(
            "--node-name, --kubeconfig and --context ask for no pods: say which with --namespace, --all-namespaces, "
            "--pod-regex or --selector"
        )
    return False


def kubernetes_feed(
    arguments: argparse.Namespace, environment: Mapping[str, str], warn: Callable[[str], None]
) -> KubernetesFeed:
    """What the options ask for. Raises UsageError that names the bad value."""
    from tapper.targets.kubernetes import KubernetesFeed, Query  # noqa: PLC0415 - only for whoever asks for pods
    from tapper.targets.podsapi import Access  # noqa: PLC0415

    if arguments.namespace and arguments.all_namespaces:
        raise UsageError("--all-namespaces leaves nothing for --namespace to name: give one of them")
    for namespace in arguments.namespace:
        if not _LABEL.fullmatch(namespace):
            raise UsageError(f"{namespace!r} cannot be a namespace's name (--namespace)")
    node = environment.get("NODE_NAME", "") if arguments.node_name is None else arguments.node_name
    if not node:
        raise UsageError(
            "only pods of this node can be captured, and which it is nobody has said: --node-name, "
            "or NODE_NAME in the environment"
        )
    if not re.fullmatch(r"[a-z0-9.-]{1,253}", node):
        raise UsageError(f"{node!r} cannot be a node's name (--node-name)")
    wanted = None
    if arguments.pod_regex is not None:
        try:
            wanted = re.compile(arguments.pod_regex)
        except (re.error, RecursionError, OverflowError) as error:
            raise UsageError(f"{arguments.pod_regex!r} is no regular expression: {error} (--pod-regex)") from None
    query = Query(node, tuple(arguments.namespace), arguments.all_namespaces, arguments.selector, wanted)
    return KubernetesFeed(Access(arguments.kubeconfig, arguments.context), query, warn)
