"""Clusters: where a proxy's connections go."""

from __future__ import annotations

from typing import Any

from harness.mesh.envoy_config import LOOPBACK, Json, extension, socket_address, tls, typed
from harness.mesh.workload import PASSTHROUGH_SOURCE, Delivery, Destination, ProxySpec

_CLUSTER = "envoy.config.cluster.v3.Cluster"
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_CONNECT_TIMEOUT = "5s"

PASSTHROUGH = "PassthroughCluster"
_RAW_BUFFER = extension(
    "envoy.transport_sockets.raw_buffer", "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"
)


def build(spec: ProxySpec) -> list[Json]:
    """All clusters of a sidecar."""
    clusters = [_original_destination(PASSTHROUGH)]
    clusters += [
        outbound(spec, destination, carries) for destination in spec.destinations for carries in tls.OFFERED_ALPN
    ]
    if spec.delivery is Delivery.PASSTHROUGH:
        clusters += [_inbound_passthrough(family) for family in PASSTHROUGH_SOURCE]
    else:
        clusters += [_inbound_localhost(port) for port in spec.ports]
    return clusters


def outbound_name(destination: Destination, carries: str) -> str:
    return f"outbound|{destination.port}|{carries}|{destination.name}"


def inbound_name(spec: ProxySpec, family: int, port: int | None) -> str:
    """The cluster that delivers to the application; LOCALHOST delivery has one for each port."""
    if spec.delivery is Delivery.PASSTHROUGH:
        return f"InboundPassthroughCluster|{family}"
    return f"inbound|{port}"


def outbound(spec: ProxySpec, destination: Destination, carries: str) -> Json:
    """The way to a destination: mTLS to the endpoints that have a sidecar, plaintext to the others (auto mTLS)."""
    name = outbound_name(destination, carries)
    identities = [endpoint.identity for endpoint in destination.endpoints if endpoint.identity]
    modes = {True: {"tlsMode": "istio"}, False: {"tlsMode": "disabled"}}
    sni = f"outbound_.{destination.port}_._.{destination.name}"
    endpoints = [
        {
            "endpoint": {"address": socket_address(endpoint.address, endpoint.port)},
            "metadata": {"filter_metadata": {"envoy.transport_socket_match": modes[endpoint.identity is not None]}},
        }
        for endpoint in destination.endpoints
    ]
    cluster = _static(
        name,
        endpoints,
        transport_socket_matches=[
            {
                "name": "tlsMode-istio",
                "match": {"tlsMode": "istio"},
                "transport_socket": tls.client_socket(spec.directory, carries, sni, identities),
            },
            {"name": "tlsMode-disabled", "match": {}, "transport_socket": _RAW_BUFFER},
        ],
    )
    if carries != "tcp":
        cluster["typed_extension_protocol_options"] = _same_protocol_as_downstream()
    return cluster


def _static(name: str, endpoints: list[Json], **fields: Any) -> Json:
    """A cluster with these endpoints."""
    assignment = {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]}
    basics = {"name": name, "type": "STATIC", "connect_timeout": _CONNECT_TIMEOUT, "load_assignment": assignment}
    return typed(_CLUSTER, **basics, **fields)


def _original_destination(name: str) -> Json:
    return typed(
        _CLUSTER, name=name, type="ORIGINAL_DST", lb_policy="CLUSTER_PROVIDED", connect_timeout=_CONNECT_TIMEOUT
    )


def _inbound_passthrough(family: int) -> Json:
    """To the address that the client dialled, from an address that the redirect rules let through."""
    cluster = _original_destination(f"InboundPassthroughCluster|{family}")
    cluster["upstream_bind_config"] = {"source_address": {"address": PASSTHROUGH_SOURCE[family], "port_value": 0}}
    cluster["typed_extension_protocol_options"] = _same_protocol_as_downstream()
    return cluster


def _inbound_localhost(port: int) -> Json:
    endpoint = {"endpoint": {"address": socket_address(LOOPBACK[4], port)}}
    return _static(
        f"inbound|{port}",
        [endpoint],
        upstream_bind_config={"source_address": {"address": LOOPBACK[4], "port_value": 0}},
        typed_extension_protocol_options=_same_protocol_as_downstream(),
    )


def _same_protocol_as_downstream() -> Json:
    keep: Json = {"http_protocol_options": {}, "http2_protocol_options": {}}
    return {_HTTP_OPTIONS: typed(_HTTP_OPTIONS, use_downstream_protocol_config=keep)}
