"""Making a cluster with Istio and this project's image, by kind, docker and istioctl, which are fetched if missing."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.errors import HarnessError, Unsupported
from harness.worlds.cluster import daemon, objects, shielded
from harness.worlds.cluster.cleanup import Ledger

KIND_NETWORK = "kind"
_ISTIO_S = 600.0
_LOAD_S = 600.0
_KEPT = 4000

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class IstioOptions:
    """How to install Istio; None is istioctl's own choice."""

    istioctl: Path | None = None
    hub: str | None = None
    tag: str | None = None
    values: Path | None = None
    url: str | None = None
    """Where an istioctl is fetched from (.tar.gz), if there is none."""
    sha256: str | None = None

    def arguments(self) -> list[str]:
        """For `istioctl install`."""
        found = ["install", "--skip-confirmation"]
        if self.values is not None:
            found += ["--filename", str(self.values)]
        else:
            found += ["--set", "profile=minimal"]
        for name, value in (("hub", self.hub), ("tag", self.tag)):
            if value is not None:
                found += ["--set", f"{name}={value}"]
        return found


def find_istioctl(options: IstioOptions, folder: Path, say: Say) -> Path:
    """The given istioctl, the one on PATH, or a fetched one that has the given checksum. Raises Unsupported."""
    if options.istioctl is not None:
        if not os.access(options.istioctl, os.X_OK):
            raise Unsupported(f"--istioctl {options.istioctl} is not a program that can be run")
        return options.istioctl
    found = shutil.which("istioctl")
    if found is not None:
        return Path(found)
    if options.url is None or options.sha256 is None:
        raise Unsupported(
            "there is no istioctl: put one on PATH, name it with --istioctl, or say where it is to be fetched from and "
            "what it has to be, with --istioctl-url and --istioctl-sha256"
        )
    return fetch_istioctl(options.url, options.sha256, folder, say)


def fetch_istioctl(url: str, sha256: str, folder: Path, say: Say) -> Path:
    """Fetch a .tar.gz, compare its checksum, and unpack the program."""
    say(f"fetching istioctl from {url}")
    archive = folder / "istioctl.tar.gz"
    try:
        with urllib.request.urlopen(url, timeout=60) as answer, archive.open("wb") as file:
            shutil.copyfileobj(answer, file)
    except (OSError, ValueError) as error:
        raise Unsupported(f"istioctl cannot be fetched from {url}: {error}") from None
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != sha256.lower():
        archive.unlink()
        raise Unsupported(
            f"the file from {url} is another one than --istioctl-sha256 says: its SHA-256 is {digest}, not {sha256}"
        )
    program = folder / "istioctl"
    try:
        with tarfile.open(archive) as content:
            files = [member for member in content.getmembers() if member.isfile()]
            members = [member for member in files if Path(member.name).name == "istioctl"]
            if len(members) != 1:
                raise Unsupported(f"{url} has no program named istioctl in it")
            packed = content.extractfile(members[0])
            assert packed is not None
            program.write_bytes(packed.read())
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise Unsupported(f"what {url} sent cannot be unpacked: {error}") from None
    program.chmod(0o755)
    return program


def install_istio(istioctl: Path, options: IstioOptions, kubeconfig: str | None, context: str | None, say: Say) -> None:
    """Raises HarnessError with istioctl's words."""
    say("installing Istio")
    target = cluster_options(kubeconfig, context)
    run([str(istioctl), *options.arguments(), *target], _ISTIO_S)


def cluster_options(kubeconfig: str | None, context: str | None) -> list[str]:
    """The options by which istioctl finds the cluster."""
    found = ["--kubeconfig", kubeconfig] if kubeconfig else []
    return found + (["--context", context] if context else [])


def run(argv: Sequence[str], timeout: float) -> str:
    """Run a program of this machine: its output. Raises HarnessError with the end of it unless it ended with 0."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        raise HarnessError(f"{' '.join(argv)} did not end within {timeout:g} s") from None
    except OSError as error:
        raise Unsupported(f"{argv[0]} cannot be run: {error}") from None
    if done.returncode != 0:
        raise HarnessError(f"{' '.join(argv)} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-_KEPT:]}")
    return done.stdout


class ManagedKind:
    """A kind cluster, by pytest-kind: created, or taken over if one of that name exists."""

    def __init__(self, cluster: Any, ledger: Ledger, say: Say, *, keep: bool) -> None:
        self._cluster = cluster
        self._ledger = ledger
        self._say = say
        self._keep = keep
        self.was_there = False

    @property
    def kubeconfig(self) -> str:
        return str(self._cluster.kubeconfig_path)

    def create(self) -> None:
        """Create the cluster. It is entered for removal before, unless it is to be kept."""
        try:
            self._cluster.ensure_kind()
        except OSError as error:
            raise Unsupported(f"kind cannot be fetched: {error}; --kind-bin takes an installed one") from None
        name = self._cluster.name
        kind = str(self._cluster.kind_path)
        self.was_there = name in run([kind, "get", "clusters"], 60).split()
        if self.was_there:
            self._say(f"taking the kind cluster {name}, which is there already; it will be left")
            arguments = ["export", "kubeconfig", f"--name={name}", f"--kubeconfig={self.kubeconfig}"]
            run([kind, *arguments], 60)
            return
        if not self._keep:
            self._enter_network()
            self._ledger.enter(f"kind cluster {name}", lambda: self._delete(name))
        self._say(f"creating the kind cluster {name}")
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder) / "kind.yaml"
            config.write_text(yaml.safe_dump(objects.kind_config()))
            options = f"--name={name}", f"--kubeconfig={self.kubeconfig}", f"--config={config}"
            argv = [kind, "create", "cluster", *options]
            if self._cluster.image:
                argv.append(f"--image={self._cluster.image}")
            code = shielded.run(argv, self._say)
            if code != 0:
                raise HarnessError(
                    f"kind could not create the cluster {name} (exit code {code}); its own words are above"
                )

    def load(self, archive: Path) -> None:
        self._say(f"loading {archive.name} into the nodes")
        kind = str(self._cluster.kind_path)
        run([kind, "load", "image-archive", str(archive), f"--name={self._cluster.name}"], _LOAD_S)

    def restart_api_server(self) -> None:
        """Kill the API server's process on the node of the control plane; its kubelet starts another."""
        with daemon.client() as docker:
            (node,) = docker.containers.list(filters={"name": f"^{self._cluster.name}-control-plane$"})
            code, output = node.exec_run(["pkill", "-KILL", "-x", "kube-apiserver"])
        if code != 0:
            raise HarnessError(f"the API server of {self._cluster.name} cannot be ended: {output.decode()}")

    def _delete(self, name: str) -> bool:
        there = name in run([str(self._cluster.kind_path), "get", "clusters"], 60).split()
        self._cluster.delete()
        Path(self.kubeconfig).unlink(missing_ok=True)
        return there

    def _enter_network(self) -> None:
        """Remove the network that kind leaves behind."""
        with daemon.client() as docker:
            is_there = bool(docker.networks.list(names=[f"^{KIND_NETWORK}$"]))
        if not is_there:
            self._ledger.enter(f"docker network {KIND_NETWORK}", remove_network)


def remove_network() -> bool:
    with daemon.client() as docker:
        found = docker.networks.list(names=[f"^{KIND_NETWORK}$"], greedy=True)
        for network in found:
            if network.containers:
                return False  # another cluster uses it meanwhile
            network.remove()
    return bool(found)
