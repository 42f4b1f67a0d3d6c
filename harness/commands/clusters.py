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
"""The default name of the kind cluster."""
OF_PYTEST_KIND = "pytest-kind"
"""The default of the plugin pytest-kind, which counts as no name: every project that uses the plugin has it, and its
cluster would be taken for ours."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add them by the names that tests/e2e uses; docs/e2e.md explains them."""
    group = parser.add_argument_group(
        "in a cluster", "for the cases of TAP-MESH, with an adapter that has a table cluster"
    )
    actions = []

    def add_option(*names: str, **attributes: Any) -> None:
        actions.append(group.add_argument(*names, **attributes))

    add_option("--kind", action="store_true", help="make a kind cluster with Istio, and remove it again")
    add_option("--kubeconfig", metavar="FILE", help="use a cluster that has Istio")
    add_option("--context", metavar="NAME", help="use the cluster of this context of the kubeconfig")
    add_option("--yes-this-cluster", action="store_true", help="use this cluster although it is not on this machine")
    add_option(
        "--cluster-name", default=NAME, metavar="NAME", help="the name of the kind cluster (default: %(default)s)"
    )
    add_option("--keep-cluster", action="store_true", help="keep the kind cluster after the run")
    add_option("--kind-image", metavar="NAME", help="the image of the nodes")
    add_option("--kind-bin", type=Path, metavar="FILE", help="default: fetched by pytest-kind")
    add_option("--kind-kubectl-bin", type=Path, metavar="FILE", help="default: fetched by pytest-kind")
    add_istio_and_image(add_option)
    parser.set_defaults(cluster_actions=actions)


def add_istio_and_image(add_option: Callable[..., object]) -> None:
    """Add the options that tests/e2e has, too: `add_option` is argparse's add_argument or pytest's addoption."""
    add_option("--istioctl", type=Path, metavar="FILE", help="default: the one on PATH, else --istioctl-url")
    add_option("--istioctl-url", metavar="URL", help="a .tar.gz with istioctl; needs --istioctl-sha256")
    add_option("--istioctl-sha256", metavar="HEX", help="the required checksum of the .tar.gz")
    add_option("--istio-hub", metavar="HUB", help="where Istio's images come from")
    add_option("--istio-tag", metavar="TAG", help="the tag of these images")
    add_option("--istio-values", type=Path, metavar="FILE", help="an IstioOperator for istioctl install")
    add_option(
        "--image-archive", type=Path, metavar="TAR", help="an archive of this project's image, instead of building it"
    )
    add_option("--image", default=IMAGE, metavar="NAME", help="the name of that image (default: %(default)s)")


def asked_for(value: Callable[[str], Any]) -> bool:
    """Whether a cluster is asked for; `value` as for `options`."""
    return bool(value("kind") or value("kubeconfig") or value("context"))


def given(arguments: argparse.Namespace) -> tuple[str, ...]:
    """The options that differ from their defaults, as a user would write them again."""
    found: list[str] = []
    for action in arguments.cluster_actions:
        value = getattr(arguments, action.dest)
        if value is True:
            found.append(action.option_strings[0])
        elif value != action.default:
            found += [action.option_strings[0], str(value)]
    return tuple(found)


def options(value: Callable[[str], Any]) -> ClusterOptions:
    """`value` gives an option by its name with underscores, None for an option that does not exist.

    Raises Unsupported if the packages for clusters are not installed.
    """
    try:
        from harness.worlds.cluster.install import IstioOptions
        from harness.worlds.cluster.opening import ClusterOptions
    except ModuleNotFoundError as error:
        raise Unsupported(f"the package {error.name} is not installed: pip install 'tapper-harness[e2e]'") from None

    def path(name: str) -> Path | None:
        text = value(name)
        return Path(text) if text else None

    named = value("cluster_name")
    return ClusterOptions(
        kind=bool(value("kind")),
        image=value("image"),
        kubeconfig=value("kubeconfig"),
        context=value("context"),
        consent=bool(value("yes_this_cluster")),
        archive=path("image_archive"),
        name=NAME if named in (None, OF_PYTEST_KIND) else str(named),
        keep=bool(value("keep_cluster")),
        kind_image=value("kind_image") or None,
        kind_bin=path("kind_bin"),
        kubectl_bin=path("kind_kubectl_bin"),
        istio=IstioOptions(
            path("istioctl"),
            value("istio_hub"),
            value("istio_tag"),
            path("istio_values"),
            value("istioctl_url"),
            value("istioctl_sha256"),
        ),
    )
