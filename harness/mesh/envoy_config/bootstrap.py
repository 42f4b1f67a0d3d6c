"""The bootstrap, and the two files through which a running proxy is given new listeners and clusters."""

from __future__ import annotations

import socket

from harness.mesh.envoy_config import ADMIN_PORT, LOOPBACK, Json, clusters, listeners, socket_address
from harness.mesh.workload import ProxySpec

_SO_MARK = 36  # asm-generic/socket.h


def bootstrap(spec: ProxySpec) -> Json:
    """envoy.config.bootstrap.v3.Bootstrap: everything else comes from the files `lds.json` and `cds.json`."""
    config: Json = {
        "node": {"id": f"sidecar~{spec.name}", "cluster": spec.name},
        "admin": {"address": socket_address(LOOPBACK[4], ADMIN_PORT)},
        "dynamic_resources": {
            "lds_config": _file(f"{spec.directory}/lds.json"),
            "cds_config": _file(f"{spec.directory}/cds.json"),
        },
    }
    if spec.mark is not None:
        option = {"level": socket.SOL_SOCKET, "name": _SO_MARK, "int_value": spec.mark, "state": "STATE_PREBIND"}
        config["cluster_manager"] = {"upstream_bind_config": {"socket_options": [option]}}
    return config


def discovery_files(spec: ProxySpec, version: int) -> dict[str, Json]:
    """envoy.service.discovery.v3.DiscoveryResponse for listeners and clusters, by file name."""
    return {
        "cds.json": {"version_info": str(version), "resources": clusters.build(spec)},
        "lds.json": {"version_info": str(version), "resources": listeners.build(spec)},
    }


def _file(path: str) -> Json:
    return {"path_config_source": {"path": path}, "resource_api_version": "V3"}
