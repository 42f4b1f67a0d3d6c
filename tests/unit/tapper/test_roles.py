"""What processes say of their part in a mesh, on bytes."""

from __future__ import annotations

import pytest

from tapper.discovery.roles import is_proxyless, linkerd_pod, role_of
from tapper.targets.pods import PodName


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (b"/usr/local/bin/pilot-agent proxy router --domain x", b"router"),
        (b"pilot-agent proxy waypoint", b"waypoint"),
        (b"/usr/local/bin/pilot-agent proxy sidecar", b"sidecar"),
        (b"/usr/local/bin/pilot-agent proxy", None),
        (b"/usr/local/bin/pilot-agent request proxy router", None),
        (b"/bin/other-pilot-agent proxy router", None),
        (b"envoy -c f --service-node router~10.0.0.1~gw.ns~ns.svc --restart-epoch 0", b"router"),
        (b"envoy --service-node=sidecar~10.0.0.1~a.b~c", b"sidecar"),
        (b"envoy --service-node", None),
        (b"envoy --service-node router", None),
        (b"envoy -c router~x", None),
        (b"", None),
    ],
)
def test_role(argv: bytes, expected: bytes | None) -> None:
    assert role_of(argv.split()) == expected


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (b"A=b\0GRPC_XDS_BOOTSTRAP=/etc/istio/proxy/grpc-bootstrap.json\0", True),
        (b"ISTIO_META_GENERATOR=grpc\0", True),
        (b"ISTIO_META_GENERATOR=grpcx\0", False),
        (b"GRPC_XDS_BOOTSTRAP=\0", False),
        (b"XGRPC_XDS_BOOTSTRAP=/x\0GRPC_XDS_BOOTSTRAP", False),
        (b"", False),
    ],
)
def test_proxyless(environ: bytes, expected: bool) -> None:
    assert is_proxyless(environ) is expected


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (b"_pod_name=cart-1\0_pod_ns=shop\0_pod_ns=other\0", PodName("shop", "cart-1")),
        (b"_pod_name=cart-\xff\0_pod_ns=shop", PodName("shop", "cart-\ufffd")),
        (b"_pod_name=cart-1\0", None),
        (b"_pod_ns=shop\0_pod_name=\0", None),
        (b"", None),
    ],
)
def test_linkerds_names(environ: bytes, expected: PodName | None) -> None:
    assert linkerd_pod(environ) == expected
