"""Envoy's configuration as Istio would write it for a sidecar. Pure: `ProxySpec` in, JSON-ready dictionaries out.

Field names are those of Envoy's v3 API (https://www.envoyproxy.io/docs/envoy/latest/api-v3/api).
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

ADMIN_PORT = 15000
OUTBOUND_PORT = 15001
INBOUND_PORT = 15006

WILDCARD = {4: "0.0.0.0", 6: "::"}
LOOPBACK = {4: "127.0.0.1", 6: "::1"}


def typed(kind: str, **fields: Any) -> Json:
    """A google.protobuf.Any in JSON form."""
    return {"@type": f"type.googleapis.com/{kind}", **fields}


def extension(name: str, kind: str, **fields: Any) -> Json:
    """An extension of Envoy by its name, with its configuration (envoy.config.core.v3.TypedExtensionConfig)."""
    return {"name": name, "typed_config": typed(kind, **fields)}


def socket_address(address: str, port: int) -> Json:
    """envoy.config.core.v3.Address."""
    return {"socket_address": {"address": address, "port_value": port}}
