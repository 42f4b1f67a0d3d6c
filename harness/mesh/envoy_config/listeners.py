"""Listeners: how a proxy handles the connections that the redirect rules bring to it.

Outbound, everything arrives at 15001, which hands each connection to the listener of its original destination; those
are never bound. Inbound, everything arrives at 15006, where the filter chains tell mesh TLS, plaintext and an
application's own TLS apart, as the mode allows.
"""

from __future__ import annotations

from harness.mesh.envoy_config import (
    INBOUND_PORT,
    OUTBOUND_PORT,
    WILDCARD,
    Json,
    clusters,
    extension,
    socket_address,
    tls,
    typed,
)
from harness.mesh.workload import Delivery, Destination, Mode, ProxySpec

_LISTENER = "envoy.config.listener.v3.Listener"
_DETECTION_TIMEOUT = "0.1s"  # a protocol in which the server speaks first has to wait this long
_HTTP1 = ["http/1.0", "http/1.1"]
_HTTP2 = ["h2c"]


def build(spec: ProxySpec) -> list[Json]:
    """All listeners of a sidecar, both address families."""
    listeners = [
        virtual for family in WILDCARD for virtual in (_virtual_outbound(family), _virtual_inbound(spec, family))
    ]
    return listeners + [_outbound(destination) for destination in spec.destinations]


def _virtual_outbound(family: int) -> Json:
    return typed(
        _LISTENER,
        name=f"virtualOutbound|{family}",
        address=socket_address(WILDCARD[family], OUTBOUND_PORT),
        use_original_dst=True,
        traffic_direction="OUTBOUND",
        filter_chains=[{"filters": [_tcp_proxy("outbound", clusters.PASSTHROUGH)]}],
    )


def _outbound(destination: Destination) -> Json:
    def via(carries: str) -> str:
        return clusters.outbound_name(destination, carries)

    name = f"{destination.address}_{destination.port}"
    return typed(
        _LISTENER,
        name=name,
        address=socket_address(destination.address, destination.port),
        bind_to_port=False,
        traffic_direction="OUTBOUND",
        listener_filters=[_http_inspector()],
        listener_filters_timeout=_DETECTION_TIMEOUT,
        continue_on_listener_filters_timeout=True,
        filter_chains=[
            {"filter_chain_match": {"application_protocols": alpn}, "filters": [_http("outbound", via(carries))]}
            for alpn, carries in ((_HTTP1, "http1"), (_HTTP2, "http2"))
        ],
        default_filter_chain={"filters": [_tcp_proxy("outbound", via("tcp"))]},
    )


def _virtual_inbound(spec: ProxySpec, family: int) -> Json:
    chains: list[Json] = []
    # LOCALHOST delivery has a cluster, and so a set of chains, for every port of the application
    for port in spec.ports if spec.delivery is Delivery.LOCALHOST else (None,):
        target = clusters.inbound_name(spec, family, port)
        if spec.mode is not Mode.DISABLE:
            chains += _mesh_chains(spec, target, port)
        if spec.mode is not Mode.STRICT:
            chains += _plain_chains(target, port)
    filters = [_listener_filter("original_dst", "OriginalDst"), _listener_filter("tls_inspector", "TlsInspector")]
    if spec.mode is not Mode.STRICT:
        filters.append(_http_inspector())
    return typed(
        _LISTENER,
        name=f"virtualInbound|{family}",
        address=socket_address(WILDCARD[family], INBOUND_PORT),
        traffic_direction="INBOUND",
        listener_filters=filters,
        listener_filters_timeout=_DETECTION_TIMEOUT,
        continue_on_listener_filters_timeout=True,
        filter_chains=chains,
    )


def _mesh_chains(spec: ProxySpec, target: str, port: int | None) -> list[Json]:
    """TLS with an ALPN of the mesh: terminate it."""
    return [
        {
            "filter_chain_match": _match(port, "tls", tls.MESH_HTTP_ALPN),
            "transport_socket": tls.server_socket(spec.directory, ["h2", "http/1.1"]),
            "filters": [_http("inbound", target)],
        },
        {
            "filter_chain_match": _match(port, "tls", tls.MESH_TCP_ALPN),
            "transport_socket": tls.server_socket(spec.directory, ["istio-peer-exchange", "istio"]),
            "filters": [_tcp_proxy("inbound", target)],
        },
    ]


def _plain_chains(target: str, port: int | None) -> list[Json]:
    """Plaintext from outside the mesh, and an application's own TLS, which is passed on untouched."""
    return [
        {"filter_chain_match": _match(port, "raw_buffer", [*_HTTP1, *_HTTP2]), "filters": [_http("inbound", target)]},
        {"filter_chain_match": _match(port, "raw_buffer", None), "filters": [_tcp_proxy("inbound", target)]},
        {"filter_chain_match": _match(port, "tls", None), "filters": [_tcp_proxy("inbound", target)]},
    ]


def _match(port: int | None, transport: str, alpn: list[str] | None) -> Json:
    match: Json = {"transport_protocol": transport}
    if port is not None:
        match["destination_port"] = port
    if alpn is not None:
        match["application_protocols"] = alpn
    return match


def _http(direction: str, cluster: str) -> Json:
    route = {"match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "0s"}}
    router = extension("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router")
    return extension(
        "envoy.filters.network.http_connection_manager",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=direction,
        codec_type="AUTO",
        server_name="istio-envoy",
        stream_idle_timeout="0s",
        upgrade_configs=[{"upgrade_type": "websocket"}],
        route_config={
            "name": direction,
            "validate_clusters": False,  # as Istio does: Envoy may read updated listeners before their clusters
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}],
        },
        http_filters=[router],
    )


def _tcp_proxy(direction: str, cluster: str) -> Json:
    kind = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
    return extension("envoy.filters.network.tcp_proxy", kind, stat_prefix=f"{direction}_tcp", cluster=cluster)


def _http_inspector() -> Json:
    return _listener_filter("http_inspector", "HttpInspector")


def _listener_filter(name: str, message: str) -> Json:
    return extension(f"envoy.filters.listener.{name}", f"envoy.extensions.filters.listener.{name}.v3.{message}")
