"""The options that ask for a cluster, and the cluster that they ask for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.commands import clusters

if TYPE_CHECKING:
    from harness.worlds.cluster.session import ClusterSession


def add_options(group: pytest.OptionGroup, *, pytest_kind: bool) -> None:
    """The plugin pytest-kind adds --cluster-name, --keep-cluster, --kubeconfig, --kind-image and --kind-bin."""
    group.addoption("--kind", action="store_true", help="run the scenarios on a kind cluster with Istio")
    if not pytest_kind:
        group.addoption("--kubeconfig", metavar="FILE", help="run the scenarios on an existing cluster")
    group.addoption("--context", metavar="NAME", help="use the cluster of this context of the kubeconfig")
    group.addoption(
        "--yes-this-cluster", action="store_true", help="use a cluster that is not on this machine (its API server)"
    )
    clusters.add_istio_and_image(group.addoption)
    group.addoption("--e2e-artifacts", type=Path, metavar="DIR", help="for every failed scenario, a folder of evidence")


def is_asked_for(config: pytest.Config) -> bool:
    return clusters.asked_for(lambda name: config.getoption(name, None))


@contextlib.contextmanager
def opened(config: pytest.Config) -> Iterator[ClusterSession]:
    """The cluster, for the time of the run. Raises Unsupported if it cannot be had or may not be used."""
    options = clusters.options(lambda name: config.getoption(name, None))
    from harness.worlds.cluster import opening, progress

    with opening.opened(options, progress.teller(config.pluginmanager.getplugin("capturemanager"))) as session:
        yield session
