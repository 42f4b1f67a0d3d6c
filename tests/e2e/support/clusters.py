"""The options that ask for a cluster, and the cluster that they ask for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.commands.clusters import NAME, add_istio_and_image
from harness.errors import Unsupported

if TYPE_CHECKING:
    from harness.worlds.cluster.session import ClusterSession

_OF_PYTEST_KIND = "pytest-kind"
"""Its default of --cluster-name."""


def add_options(group: pytest.OptionGroup, *, pytest_kind: bool) -> None:
    """Those of pytest-kind (--cluster-name, --keep-cluster, --kubeconfig, --kind-image, --kind-bin) are its own."""
    group.addoption("--kind", action="store_true", help="run the scenarios on a kind cluster with Istio")
    if not pytest_kind:
        group.addoption("--kubeconfig", metavar="FILE", help="run the scenarios on a cluster that is there already")
    group.addoption("--context", metavar="NAME", help="one of the kubeconfig's contexts; asks for that cluster")
    group.addoption(
        "--yes-this-cluster", action="store_true", help="use a cluster that is not on this machine (its API server)"
    )
    add_istio_and_image(group.addoption)
    group.addoption("--e2e-artifacts", type=Path, metavar="DIR", help="for every failed scenario, a folder of evidence")


def cluster_name(config: pytest.Config) -> str:
    """The same default as `tapper-harness check` has. pytest-kind's own counts as no name, and is no safe one: it is
    that of every project that uses pytest-kind, whose cluster would be taken for ours."""
    named = config.getoption("--cluster-name", _OF_PYTEST_KIND)
    return NAME if named == _OF_PYTEST_KIND else str(named)


def is_asked_for(config: pytest.Config) -> bool:
    return bool(config.getoption("--kind") or config.getoption("--kubeconfig") or config.getoption("--context"))


@contextlib.contextmanager
def opened(config: pytest.Config) -> Iterator[ClusterSession]:
    """The cluster, for the time of the run. Raises Unsupported where it cannot be had or may not be used."""
    try:
        from harness.worlds.cluster import opening, progress
        from harness.worlds.cluster.install import IstioOptions
    except ModuleNotFoundError as error:
        raise Unsupported(f"the package {error.name} is not installed: pip install 'tapper-harness[e2e]'") from None

    def path(option: str) -> Path | None:
        value = config.getoption(option)
        return Path(value) if value else None

    def of_pytest_kind(option: str) -> Path | None:
        return path(option) if config.pluginmanager.hasplugin("pytest-kind") else None

    kind_image = of_pytest_kind("--kind-image")
    options = opening.ClusterOptions(
        kind=config.getoption("--kind"),
        image=config.getoption("--image"),
        kubeconfig=config.getoption("--kubeconfig"),
        context=config.getoption("--context"),
        consent=config.getoption("--yes-this-cluster"),
        archive=config.getoption("--image-archive"),
        name=cluster_name(config),
        keep=bool(config.getoption("--keep-cluster", False)),
        kind_image=None if kind_image is None else str(kind_image),
        kind_bin=of_pytest_kind("--kind-bin"),
        kubectl_bin=of_pytest_kind("--kind-kubectl-bin"),
        istio=IstioOptions(
            config.getoption("--istioctl"),
            config.getoption("--istio-hub"),
            config.getoption("--istio-tag"),
            config.getoption("--istio-values"),
            config.getoption("--istioctl-url"),
            config.getoption("--istioctl-sha256"),
        ),
    )
    with opening.opened(options, progress.teller(config.pluginmanager.getplugin("capturemanager"))) as session:
        yield session
