"""The options that ask for a cluster, and the cluster that they ask for."""

from __future__ import annotations

import contextlib
import gc
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from manifests import FOLDER

from harness.errors import Unsupported

if TYPE_CHECKING:
    from harness.worlds.cluster.api import ClusterApi
    from harness.worlds.cluster.cleanup import Ledger
    from harness.worlds.cluster.session import ClusterSession

REPOSITORY = FOLDER.parents[1]
IMAGE = "tapper-harness:dev"


def add_options(group: pytest.OptionGroup, *, pytest_kind: bool) -> None:
    """Those of pytest-kind (--cluster-name, --keep-cluster, --kubeconfig, --kind-image, --kind-bin) are its own."""
    group.addoption("--kind", action="store_true", help="run the scenarios on a kind cluster with Istio")
    if not pytest_kind:
        group.addoption("--kubeconfig", metavar="FILE", help="run the scenarios on a cluster that is there already")
    group.addoption("--context", metavar="NAME", help="one of the kubeconfig's contexts; asks for that cluster")
    group.addoption(
        "--yes-this-cluster", action="store_true", help="use a cluster that is not on this machine (its API server)"
    )
    group.addoption("--istioctl", type=Path, metavar="FILE", help="default: the one on PATH, else --istioctl-url")
    group.addoption("--istioctl-url", metavar="URL", help="a .tar.gz with istioctl; needs --istioctl-sha256")
    group.addoption("--istioctl-sha256", metavar="HEX", help="the checksum that the .tar.gz has to have")
    group.addoption("--istio-hub", metavar="HUB", help="where Istio's images come from")
    group.addoption("--istio-tag", metavar="TAG", help="their tag")
    group.addoption("--istio-values", type=Path, metavar="FILE", help="an IstioOperator for istioctl install")
    group.addoption("--image-archive", type=Path, metavar="TAR", help="this project's image, instead of building it")
    group.addoption("--image", default=IMAGE, metavar="NAME", help="its name (default: %(default)s)")
    group.addoption("--e2e-artifacts", type=Path, metavar="DIR", help="for every failed scenario, a folder of evidence")


def is_asked_for(config: pytest.Config) -> bool:
    return bool(config.getoption("--kind") or config.getoption("--kubeconfig") or config.getoption("--context"))


@contextlib.contextmanager
def opened(config: pytest.Config) -> Iterator[ClusterSession]:
    """The cluster, for the time of the run. Raises Unsupported where it cannot be had or may not be used."""
    try:
        from harness.worlds.cluster import progress
        from harness.worlds.cluster.api import ClusterApi
        from harness.worlds.cluster.cleanup import Ledger, ending_by_sigterm
        from harness.worlds.cluster.session import ClusterSession, require_consent
    except ModuleNotFoundError as error:
        raise Unsupported(f"the package {error.name} is not installed: pip install 'tapper-harness[e2e]'") from None
    capture = config.pluginmanager.getplugin("capturemanager")
    say = progress.teller(capture)
    ledger = Ledger(say)
    with tempfile.TemporaryDirectory() as folder, ending_by_sigterm():
        api: ClusterApi | None = None
        try:
            if config.getoption("--kind"):
                api = _kind(config, ledger, say, Path(folder))
            else:
                api = ClusterApi(config.getoption("--kubeconfig"), config.getoption("--context"))
                require_consent(api, config.getoption("--yes-this-cluster"))
            _require_istio(api)
            yield ClusterSession(api, config.getoption("--image"), FOLDER, ledger, say)
        finally:
            try:
                ledger.clear()
            finally:
                if api is not None:
                    api.close()
                # the sockets that the client forgot are closed here, where no warning of it is taken for a failure
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    gc.collect()


def _kind(config: pytest.Config, ledger: Ledger, say: Callable[[str], None], folder: Path) -> ClusterApi:
    try:
        from pytest_kind import KindCluster
    except ModuleNotFoundError:
        raise Unsupported("--kind needs the package pytest-kind: pip install 'tapper-harness[e2e]'") from None
    from harness.worlds.cluster import install
    from harness.worlds.cluster.api import ClusterApi

    def path(option: str) -> Path | None:
        value = config.getoption(option)
        return Path(value) if value else None

    cluster = KindCluster(
        config.getoption("--cluster-name"),
        path("--kubeconfig"),
        config.getoption("--kind-image"),
        path("--kind-bin"),
        path("--kind-kubectl-bin"),
    )
    options = install.IstioOptions(
        config.getoption("--istioctl"),
        config.getoption("--istio-hub"),
        config.getoption("--istio-tag"),
        config.getoption("--istio-values"),
        config.getoption("--istioctl-url"),
        config.getoption("--istioctl-sha256"),
    )
    # what can be wrong with the options is found before a cluster is made
    istioctl = install.find_istioctl(options, folder, say)
    archive: Path | None = config.getoption("--image-archive")
    if archive is not None and not archive.is_file():
        raise Unsupported(f"--image-archive {archive} is not a file")
    archive = archive or install.build_image(REPOSITORY, config.getoption("--image"), folder, say)
    kind = install.Kind(cluster, ledger, say, keep=config.getoption("--keep-cluster"))
    kind.create()
    kind.load(archive)
    install.install_istio(istioctl, options, kind.kubeconfig, None, say)
    return ClusterApi(kind.kubeconfig, None)


def _require_istio(api: ClusterApi) -> None:
    if not api.has_kind("security.istio.io/v1", "PeerAuthentication"):
        raise Unsupported(
            f"the cluster at {api.host} has no Istio (PeerAuthentication of security.istio.io/v1): install it first"
        )
