"""Opening the cluster that a run was given, or makes: with Istio in it, for the time of the run."""

from __future__ import annotations

import contextlib
import gc
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import Unsupported
from harness.worlds.cluster import daemon, install, source
from harness.worlds.cluster.api import ClusterApi
from harness.worlds.cluster.cleanup import Ledger, ending_by_sigterm
from harness.worlds.cluster.install import IstioOptions
from harness.worlds.cluster.session import ClusterSession, require_consent

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """The options that choose and make a cluster."""

    kind: bool
    """Make one with kind; else `kubeconfig` and `context` lead to one that has Istio."""
    image: str
    """The name of this project's image, which runs the applications."""
    kubeconfig: str | None = None
    context: str | None = None
    consent: bool = False
    """Whether a cluster that is not on this machine may be used."""
    archive: Path | None = None
    """An archive of the image, instead of building it."""
    name: str = "tapper-harness"
    keep: bool = False
    kind_image: str | None = None
    kind_bin: Path | None = None
    kubectl_bin: Path | None = None
    istio: IstioOptions = field(default_factory=IstioOptions)


@contextlib.contextmanager
def opened(options: ClusterOptions, say: Say) -> Iterator[ClusterSession]:
    """The cluster for the time of the block; everything that is made is removed and reported.

    Raises Unsupported if it cannot be made or may not be used.
    """
    ledger = Ledger(say)
    with tempfile.TemporaryDirectory() as folder, ending_by_sigterm():
        api: ClusterApi | None = None
        try:
            restart = None
            if options.kind:
                kind = _kind(options, ledger, say, Path(folder))
                api, restart = ClusterApi(kind.kubeconfig, None), kind.restart_api_server
            else:
                api = ClusterApi(options.kubeconfig, options.context)
                require_consent(api, options.consent)
            _require_istio(api)
            istioctl = str(options.istio.istioctl or shutil.which("istioctl") or Path(folder) / "istioctl")
            yield ClusterSession(api, options.image, source.FIXTURES, ledger, say, restart, shutil.which(istioctl))
        finally:
            try:
                ledger.clear()
            finally:
                if api is not None:
                    api.close()
                # close the sockets that the client forgot here, where their warning is not taken for
                # a failure
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    gc.collect()


def _kind(options: ClusterOptions, ledger: Ledger, say: Say, folder: Path) -> install.ManagedKind:
    try:
        from pytest_kind import KindCluster  # noqa: PLC0415 - of another extra
    except ModuleNotFoundError:
        raise Unsupported("--kind needs the package pytest-kind: pip install 'tapper-harness[e2e]'") from None
    kubeconfig = Path(options.kubeconfig) if options.kubeconfig else None
    cluster = KindCluster(options.name, kubeconfig, options.kind_image, options.kind_bin, options.kubectl_bin)
    # find errors in the options before a cluster is made
    istioctl = install.find_istioctl(options.istio, folder, say)
    if options.archive is not None and not options.archive.is_file():
        raise Unsupported(f"--image-archive {options.archive} is not a file")
    with daemon.client():
        pass  # the following steps need a daemon
    archive = options.archive
    if archive is None:
        say(f"building the image {options.image}")
        archive = folder / "image.tar"
        daemon.build_image(options.image, archive)
    kind = install.ManagedKind(cluster, ledger, say, keep=options.keep)
    kind.create()
    kind.load(archive)
    install.install_istio(istioctl, options.istio, kind.kubeconfig, None, say)
    return kind


def _require_istio(api: ClusterApi) -> None:
    if not api.has_kind("security.istio.io/v1", "PeerAuthentication"):
        raise Unsupported(
            f"the cluster at {api.host} has no Istio (PeerAuthentication of security.istio.io/v1): install it first"
        )
