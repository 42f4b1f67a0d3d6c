"""Mutual TLS between sidecars: who offers which ALPN, whose certificate is asked for.

A client-side proxy announces the inner protocol by an ALPN of Istio's own, so that the server-side proxy can tell mesh
traffic from an application's TLS, and HTTP from bytes, before it has decrypted anything.
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.mesh.certificates import TRUST_DOMAIN
from harness.mesh.envoy_config import Json, extension

_TLS, _SOCKET = "envoy.extensions.transport_sockets.tls.v3", "envoy.transport_sockets.tls"

# The ALPN that the client offers, by protocol. Stock Envoy has no istio.alpn filter: one cluster for each.
OFFERED_ALPN = {
    "http1": ["istio-http/1.1", "istio", "http/1.1"],
    "http2": ["istio-h2", "istio", "h2"],
    "tcp": ["istio-peer-exchange", "istio"],
}
MESH_HTTP_ALPN = ["istio-http/1.0", "istio-http/1.1", "istio-h2"]
MESH_TCP_ALPN = ["istio-peer-exchange", "istio"]


def client_socket(directory: str, carries: str, sni: str, identities: Iterable[str]) -> Json:
    """An upstream transport socket that insists on one of the SPIFFE identities."""
    sans = [{"san_type": "URI", "matcher": {"exact": identity}} for identity in sorted(set(identities))]
    context = _common(directory, OFFERED_ALPN[carries], sans)
    return extension(_SOCKET, f"{_TLS}.UpstreamTlsContext", sni=sni, common_tls_context=context)


def server_socket(directory: str, alpn: list[str]) -> Json:
    """A downstream transport socket that asks for a certificate of the trust domain."""
    sans = [{"san_type": "URI", "matcher": {"prefix": f"spiffe://{TRUST_DOMAIN}/"}}]
    context = _common(directory, alpn, sans)
    kind = f"{_TLS}.DownstreamTlsContext"
    return extension(_SOCKET, kind, require_client_certificate=True, common_tls_context=context)


def _common(directory: str, alpn: list[str], sans: list[Json]) -> Json:
    return {
        "alpn_protocols": alpn,
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "tls_certificates": [
            {
                "certificate_chain": {"filename": f"{directory}/cert-chain.pem"},
                "private_key": {"filename": f"{directory}/key.pem"},
            }
        ],
        "validation_context": {
            "trusted_ca": {"filename": f"{directory}/root-cert.pem"},
            "match_typed_subject_alt_names": sans,
        },
    }
