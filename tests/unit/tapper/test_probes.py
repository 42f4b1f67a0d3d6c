from __future__ import annotations

import pytest
from tapper_wire import Capture, Wire, ok

from tapper.output.records import Totals
from tapper.output.shape import Shape
from tapper.protocols.probes import is_probe
from tapper.protocols.records import ExchangeRecord
from tapper.streams.connection import Scope

POD = "10.0.0.2"
KUBELET = "User-Agent: kube-probe/1.30"
OURS = ("127.0.0.6", 40000)


def record(
    target: str, field: str, client: tuple[str, int] = OURS, port: int = 8080, *, outbound: bool = False
) -> ExchangeRecord:
    wire = Wire((client, (POD, port)))
    if outbound:
        wire = Wire(((POD, 42000), ("127.0.0.1", 15001)), (("10.0.0.9", 80), (POD, 42000)))
    request = f"GET {target} HTTP/1.1\r\n{field}\r\n\r\n".encode()
    scope = Scope(None, None) if client == ("10.0.0.1", 40000) else Scope(POD, None)
    (seen,) = Capture(scope).feed([*wire.handshake(), wire.ask(request), wire.answer(ok("x"))]).seen
    return seen


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (record("/ready", KUBELET), True),
        (record("/ready", KUBELET.replace("User-Agent", "user-agent")), True),
        (record("/ready", KUBELET, ("10.0.0.1", 40000)), True),
        (record("/app-health/shop/livez", "A: b", ("10.0.0.1", 40000), 15020), True),
        (record("/healthz/ready", "A: b", ("10.0.0.1", 40000), 15021), True),
        (record("/app-health/shop/livez", "A: b"), False),
        (record("/healthz/ready", "A: b", ("10.0.0.1", 40000), 15020), False),
        (record("/ready", "User-Agent: my-kube-probe/1"), False),
        (record("/ready", "X-Agent: kube-probe/1.30"), False),
        (record("/ready", KUBELET, outbound=True), False),
    ],
)
def test_what_looks_like_a_probe(seen: ExchangeRecord, expected: bool) -> None:
    assert is_probe(seen.leg, seen.exchange) is expected


def test_a_response_alone_is_none() -> None:
    wire = Wire((OURS, (POD, 8080)))
    (seen,) = Capture().feed([*wire.handshake(), wire.answer(ok("x"))]).finish().seen
    assert not is_probe(seen.leg, seen.exchange)


def test_probes_are_left_out_and_counted() -> None:
    both = [record("/ready", KUBELET), record("/orders", "A: b")]
    totals = Totals()
    assert Shape(probes=False).apply(both, totals) == [both[1]]
    assert totals.filtered == 1
    assert len(Shape().apply(both, totals)) == 2
