"""The options of `tapper-harness check` that ask for a cluster."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import Unsupported

if TYPE_CHECKING:
    from harness.worlds.cluster.opening import ClusterOptions

IMAGE = "tapper-harness:dev"
NAME = "tapper-harness"
"""The kind cluster's, where no other is given; tests/e2e has the same."""


def add(parser: argparse.ArgumentParser) -> None:
    """As tests/e2e names them; docs/e2e.md explains them. `given` reads them back from what was parsed."""
    group = parser.add_argument_group(
        "in a cluster", "for the cases of TAP-MESH, with an adapter that has a table cluster"
    )
    actions = []

    def add_option(*names: str, **attributes: Any) -> None:
        actions.append(group.add_argument(*names, **attributes))

    add_option("--kind", action="store_true", help="make a kind cluster with Istio, and remove it again")
    add_option("--kubeconfig", metavar="FILE", help="use a cluster that has Istio")
    add_option("--context", metavar="NAME", help="one of the kubeconfig's contexts; asks for that cluster")
    add_option("--yes-this-cluster", action="store_true", help="though it is not on this machine")
    add_option("--cluster-name", default=NAME, metavar="NAME", help="the kind cluster's (default: %(default)s)")
    add_option("--keep-cluster", action="store_true", help="leave the kind cluster")
    add_option("--kind-image", metavar="NAME", help="the nodes' image")
    add_option("--kind-bin", type=Path, metavar="FILE", help="default: fetched by pytest-kind")
    add_option("--kind-kubectl-bin", type=Path, metavar="FILE", help="default: fetched by pytest-kind")
    add_istio_and_image(add_option)
    parser.set_defaults(cluster_actions=actions)


def add_istio_and_image(add_option: Callable[..., object]) -> None:
    """What a cluster is made of, which tests/e2e takes by the same options: by argparse's add_argument or its like."""
    add_option("--istioctl", type=Path, metavar="FILE", help="default: the one on PATH, else --istioctl-url")
    add_option("--istioctl-url", metavar="URL", help="a .tar.gz with istioctl; needs --istioctl-sha256")
    add_option("--istioctl-sha256", metavar="HEX", help="the checksum that the .tar.gz has to have")
    add_option("--istio-hub", metavar="HUB", help="where Istio's images come from")
    add_option("--istio-tag", metavar="TAG", help="their tag")
    add_option("--istio-values", type=Path, metavar="FILE", help="an IstioOperator for istioctl install")
    add_option("--image-archive", type=Path, metavar="TAR", help="this project's image, instead of building it")
    add_option("--image", default=IMAGE, metavar="NAME", help="its name (default: %(default)s)")


def asked_for(arguments: argparse.Namespace) -> bool:
    return bool(arguments.kind or arguments.kubeconfig or arguments.context)


def given(arguments: argparse.Namespace) -> tuple[str, ...]:
    """The options as somebody would write them again: those that are not at their defaults."""
    found: list[str] = []
    for action in arguments.cluster_actions:
        value = getattr(arguments, action.dest)
        if value is True:
            found.append(action.option_strings[0])
        elif value != action.default:
            found += [action.option_strings[0], str(value)]
    return tuple(found)


def options(arguments: argparse.Namespace) -> ClusterOptions:
    """Raises Unsupported where the packages for it are not installed."""
    try:
        from harness.worlds.cluster.install import IstioOptions
        from harness.worlds.cluster.opening import ClusterOptions
    except ModuleNotFoundError as error:
        raise Unsupported(f"the package {error.name} is not installed: pip install 'tapper-harness[e2e]'") from None
    return ClusterOptions(
        kind=arguments.kind,
        image=arguments.image,
        kubeconfig=arguments.kubeconfig,
        context=arguments.context,
        consent=arguments.yes_this_cluster,
        archive=arguments.image_archive,
        name=arguments.cluster_name,
        keep=arguments.keep_cluster,
        kind_image=arguments.kind_image,
        kind_bin=arguments.kind_bin,
        kubectl_bin=arguments.kind_kubectl_bin,
        istio=IstioOptions(
            arguments.istioctl,
            arguments.istio_hub,
            arguments.istio_tag,
            arguments.istio_values,
            arguments.istioctl_url,
            arguments.istioctl_sha256,
        ),
    )
