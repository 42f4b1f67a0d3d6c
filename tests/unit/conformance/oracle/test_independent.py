"""The oracle reads what others wrote as they meant it: h11, h2 and wsproto; and as tshark reads it.

None of these is used by the oracle or by the tapper, but for hpack, which h2 uses as well. The shapes of the
conversations are drawn from a seed, so that every run tries the same ones.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import h11
import pytest
from oracle_world import START_NS, STEP_NS, World, everything, pod
from wsproto.extensions import Extension, PerMessageDeflate
from wsproto.frame_protocol import FrameProtocol

from harness.conformance.oracle import expectation
from harness.conformance.oracle.decode import decode
from harness.conformance.oracle.model import Decoded, TrueExchange
from harness.conformance.oracle.wire import connections
from harness.mesh import replay
from harness.sandbox import pcap
from harness.sandbox.frames import Frame

SEEDS = range(40)
Pair = tuple[bytes, bytes]
Written = tuple[str, str, int, list[Pair], bytes, list[Pair], bytes, list[Pair]]
"""Method, target, status, and of request and response fields and body; the response's trailers."""


def carried(pairs: list[Pair], mss: int) -> Decoded:
    """What the oracle reads of a connection that carries these bytes."""
    frames = replay.conversation(replay.inbound(pod(1), 8080), pairs, mss=mss)
    (connection,) = connections(Frame(START_NS + number * STEP_NS, data) for number, data in enumerate(frames))
    return decode(connection)


def _body(chance: random.Random) -> bytes:
    return chance.randbytes(chance.choice((0, 0, 1, 13, 100, 4095, 4096, 20_000)))


def _fields(chance: random.Random, *, lower: bool = False) -> list[Pair]:
    names = [b"X-One", b"x-two", b"Accept", b"X-One", b"Via"]
    values = [b"", b"a", b"a, b", b'"quoted; text"', b"x" * 300, b"caf\xc3\xa9", b"a:b"]
    several = [(chance.choice(names), chance.choice(values)) for _ in range(chance.randrange(6))]
    return [(name.lower(), value) for name, value in several] if lower else several


def _target(chance: random.Random) -> str:
    return "/" + "/".join(chance.choice(("orders", "%20", "a?b=c", "..", "x" * 80)) for _ in range(3))


# -- HTTP/1 ----------------------------------------------------------------------------------------------------------


def _by_h11(chance: random.Random) -> Iterator[tuple[Pair, Written]]:
    """Exchanges of one connection, as h11 writes them."""
    client, server = h11.Connection(h11.CLIENT), h11.Connection(h11.SERVER)
    for _ in range(chance.randrange(1, 6)):
        method, target = chance.choice(("GET", "HEAD", "POST", "PUT", "OPTIONS")), _target(chance)
        asked = [(b"Host", b"shop"), *_fields(chance)]
        body = _body(chance) if method in ("POST", "PUT") else b""
        request, asked = _sent(
            chance, client, h11.Request(method=method, target=target, headers=asked), asked, body, []
        )
        server.receive_data(request)
        while server.next_event() not in (h11.NEED_DATA, h11.PAUSED) and server.their_state is not h11.DONE:
            pass
        status = chance.choice((200, 201, 204, 304, 404, 500))
        answered, trailers = _fields(chance), [(b"X-Sum", b"42")] * chance.randrange(2)
        interim = (
            server.send(h11.InformationalResponse(status_code=103, headers=[])) or b"" if chance.random() < 0.3 else b""
        )
        silent = method == "HEAD" or status in (204, 304)
        given, trailers = (b"", []) if silent else (_body(chance), trailers)
        head = h11.Response(status_code=status, headers=answered, reason=b"Fine")
        response, answered = _sent(chance, server, head, answered, given, trailers)
        client.receive_data(interim + response)
        while client.their_state is not h11.DONE:
            client.next_event()
        chunked = any(name == b"Transfer-Encoding" for name, _ in answered)
        told = trailers if chunked and not silent else []
        yield (request, interim + response), (method, target, status, asked, body, answered, given, told)
        client.start_next_cycle()
        server.start_next_cycle()


def _sent(
    chance: random.Random,
    side: h11.Connection,
    head: h11.Request | h11.Response,
    fields: list[Pair],
    body: bytes,
    trailers: list[Pair],
) -> tuple[bytes, list[Pair]]:
    """What one side sends, and the fields that it sent."""
    silent = isinstance(head, h11.Response) and head.status_code in (204, 304)
    if not silent and (body or isinstance(head, h11.Response)):
        chunked = chance.random() < 0.5
        framing = (b"Transfer-Encoding", b"chunked") if chunked else (b"Content-Length", b"%d" % len(body))
        fields = [*fields, framing]
        if isinstance(head, h11.Response):
            head = h11.Response(status_code=head.status_code, headers=fields, reason=b"Fine")
        else:
            head = h11.Request(method=head.method, target=head.target, headers=fields)
    chunked = any(name == b"Transfer-Encoding" for name, _ in fields)
    said = side.send(head) or b""
    for at in range(0, len(body), 3000):
        said += side.send(h11.Data(data=body[at : at + 3000])) or b""
    end = h11.EndOfMessage(headers=trailers) if chunked else h11.EndOfMessage()
    return said + (side.send(end) or b""), fields


@pytest.mark.parametrize("seed", SEEDS)
def test_http1_as_h11_wrote_it(seed: int) -> None:
    chance = random.Random(seed)
    pairs, written = zip(*_by_h11(chance), strict=True)
    read = carried(list(pairs), chance.choice((7, 100, 1400, 60_000)))
    assert read.flaw == ""
    assert [_flat(each) for each in read.exchanges] == list(written)


def _flat(each: TrueExchange) -> Written:
    assert each.request is not None
    assert each.response is not None
    assert each.method is not None
    assert each.target is not None
    assert each.status is not None
    request, response = each.request, each.response
    assert request.complete
    assert response.complete
    return (
        each.method,
        each.target,
        each.status,
        list(request.fields),
        request.body,
        list(response.fields),
        response.body,
        list(response.trailers),
    )


# -- HTTP/2 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_http2_as_h2_wrote_it(seed: int) -> None:
    chance = random.Random(seed)
    client, server = (_h2(client_side=client_side) for client_side in (True, False))
    pairs: list[Pair] = []

    def flush(*sides: h2.connection.H2Connection) -> None:
        for side in sides:
            data = side.data_to_send()
            if data:
                (server if side is client else client).receive_data(data)
                pairs.append((data, b"") if side is client else (b"", data))

    client.initiate_connection()
    server.initiate_connection()
    flush(client, server, client, server)
    written: dict[int, Written] = {}
    for number in range(chance.randrange(1, 8)):
        stream, body, given = 1 + 2 * number, _body(chance)[:8000], _body(chance)[:8000]
        method, target, status = chance.choice(("GET", "POST")), _target(chance), chance.choice((200, 404, 503))
        asked, answered = _fields(chance, lower=True), _fields(chance, lower=True)
        trailers: list[Pair] = [(b"x-sum", b"42")] * chance.randrange(2)
        head = [
            (b":method", method.encode()),
            (b":scheme", b"http"),
            (b":path", target.encode()),
            (b":authority", b"shop"),
        ]
        weight = 7 if chance.random() < 0.3 else None
        client.send_headers(stream, [*head, *asked], end_stream=not body, priority_weight=weight)
        written[stream] = (method, target, status, asked, body, answered, given, trailers)
    flush(client)
    _in_turns(
        chance,
        client,
        {stream: each[4] for stream, each in written.items() if each[4]},
        {},
        lambda: flush(client, server),
    )
    for stream, (_, _, status, _, _, answered, given, trailers) in sorted(
        written.items(), key=lambda _: chance.random()
    ):
        if chance.random() < 0.3:
            server.send_headers(stream, [(b":status", b"103"), (b"link", b"</a>")])
        head = [(b":status", b"%d" % status), *answered]
        server.send_headers(stream, head, end_stream=not given and not trailers)
        flush(server)
    data = {stream: each[6] for stream, each in written.items() if each[6] or each[7]}
    _in_turns(
        chance, server, data, {stream: each[7] for stream, each in written.items()}, lambda: flush(server, client)
    )
    read = carried(pairs, chance.choice((11, 1400, 60_000)))
    assert read.flaw == ""
    assert [_flat(each) for each in read.exchanges] == [written[stream] for stream in sorted(written)]


def _h2(*, client_side: bool) -> h2.connection.H2Connection:
    """One end, which sends field lines as they are given."""
    return h2.connection.H2Connection(
        h2.config.H2Configuration(
            client_side=client_side,
            header_encoding=False,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
    )


def _in_turns(
    chance: random.Random,
    side: h2.connection.H2Connection,
    bodies: dict[int, bytes],
    trailers: dict[int, list[Pair]],
    flush: Callable[[], None],
) -> None:
    """Send bodies in pieces, streams by turns, and trailers behind them."""
    left = {stream: [body[at : at + 3000] for at in range(0, len(body), 3000)] for stream, body in bodies.items()}
    while left:
        stream = chance.choice(sorted(left))
        ends = trailers.get(stream)
        if left[stream]:
            piece = left[stream].pop(0)
            last = not left[stream] and not ends
            side.send_data(stream, piece, end_stream=last, pad_length=chance.choice((None, 0, 9)))
        if not left[stream]:
            if ends:
                side.send_headers(stream, ends, end_stream=True)
            del left[stream]
        flush()


# -- WebSocket -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_websocket_messages_as_wsproto_wrote_them(seed: int) -> None:
    chance = random.Random(seed)
    deflate = chance.choice((None, {}, {"client_no_context_takeover": True, "server_no_context_takeover": True}))
    accepted = "" if deflate is None else "; ".join(["permessage-deflate", *deflate])
    extension = f"Sec-WebSocket-Extensions: {accepted}\r\n" if accepted else ""
    answer = f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{extension}\r\n"
    pairs = [
        (b"GET /chat HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", answer.encode())
    ]
    sides = {}
    for client in (True, False):
        extensions: list[Extension] = []
        if deflate is not None:
            offered = PerMessageDeflate(**deflate)
            offered._enabled = True  # as a handshake does, which here the test has written
            extensions.append(offered)
        sides[client] = FrameProtocol(client=client, extensions=extensions)
    written: list[tuple[bool, int, bytes]] = []
    for _ in range(chance.randrange(1, 9)):
        client = chance.random() < 0.5
        side, text = sides[client], chance.random() < 0.5
        body = ("täxt " * chance.choice((0, 1, 30, 3000)) if text else "").encode() or chance.randbytes(
            chance.choice((0, 5, 200))
        )
        text = text and body.startswith("täxt".encode())
        said = b""
        half = len(body) // 12 * 6
        parts = [body[:half], body[half:]] if half and chance.random() < 0.5 else [body]
        for number, part in enumerate(parts):
            if number:
                said += side.ping(b"are you there")
                written.append((client, 9, b"are you there"))
            said += side.send_data(part.decode() if text else part, fin=number == len(parts) - 1)
        written.append((client, 1 if text else 2, body))
        pairs.append((said, b"") if client else (b"", said))
    read = carried(pairs, chance.choice((5, 1400)))
    assert read.flaw == ""
    told = [(each.from_client, each.opcode, each.payload) for each in read.socket_messages]
    for client in (True, False):
        assert [each for each in told if each[0] is client] == [each for each in written if each[0] is client]


# -- tshark ----------------------------------------------------------------------------------------------------------

_TSHARK = shutil.which("tshark")
needs_tshark = pytest.mark.skipif(_TSHARK is None, reason="tshark is not installed")


@needs_tshark
def test_every_exchange_is_read_as_tshark_reads_it(tmp_path: Path) -> None:
    world = everything()
    for where in world.pods:
        file = tmp_path / f"{where.name}.pcap"
        pcap.write(file, world.frames[where.name])
        ours = list(_ours(world, where.name))
        assert Counter((each.method, each.target, str(each.status)) for each in ours) == Counter(_lines(file))
        http2 = [_response(each) for each in ours if each.protocol == "HTTP/2"]
        assert sorted(http2) == sorted(_http2_bodies(file))
        http1 = [_response(each) for each in ours if each.protocol != "HTTP/2" and _response(each)]
        assert Counter(http1) <= Counter(_objects(file, tmp_path / where.name))


def _ours(world: World, name: str) -> Iterator[TrueExchange]:
    (truth,) = [each for each in world.truths() if each.name == name]
    for decoded in expectation.read_pod(truth).decoded:
        yield from decoded.exchanges


def _response(each: TrueExchange) -> bytes:
    assert each.response is not None
    return each.response.body


def _tshark(file: Path, *arguments: str) -> str:
    done = subprocess.run(["tshark", "-r", str(file), *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def _shown(file: Path, protocol: str, *fields: str) -> list[list[str]]:
    """Ports and fields of each packet of a protocol; several of one name have commas between them."""
    ends = ("-e", "tcp.srcport", "-e", "tcp.dstport")
    names = [argument for field in fields for argument in ("-e", f"{protocol}.{field}")]
    said = _tshark(file, "-Y", protocol, "-T", "fields", "-E", "separator=|", *ends, *names)
    return [line.split("|") for line in said.splitlines()]


def _lines(file: Path) -> Iterator[tuple[str, str, str]]:
    """Method, target and status of each exchange. Responses of HTTP/1 come in the order of their requests."""
    waiting: dict[str, list[tuple[str, str]]] = {}
    fields = ("request.method", "request.uri", "response.code")
    for source, destination, method, uri, status in _shown(file, "http", *fields):
        if method:
            waiting.setdefault(source, []).append((method, uri))
        elif status:
            yield (*waiting[destination].pop(0), status)
    asked: dict[tuple[str, str], tuple[str, str]] = {}
    in_streams = ("streamid", "type", "headers.method", "headers.path", "headers.status")
    for source, destination, numbers, types, methods, paths, statuses in _shown(file, "http2", *in_streams):
        heads = [number for number, kind in zip(numbers.split(","), types.split(","), strict=True) if kind == "1"]
        if methods:
            for number, method, path in zip(heads, methods.split(","), paths.split(","), strict=True):
                asked[source, number] = method, path
        elif statuses:
            for number, status in zip(dict.fromkeys(heads), statuses.split(","), strict=True):
                yield (*asked[destination, number], status)


def _http2_bodies(file: Path) -> Iterator[bytes]:
    """The bodies of responses, whose streams are those of packets with a status, or of such without a method."""
    bodies: dict[tuple[str, str], bytes] = {}
    fields = ("streamid", "type", "headers.method", "data.data")
    for _, client, numbers, types, methods, data in _shown(file, "http2", *fields):
        frames = [number for number, kind in zip(numbers.split(","), types.split(","), strict=True) if kind == "0"]
        if data and not methods:
            for number, piece in zip(frames, data.split(","), strict=True):
                before, new = bodies.get((client, number), b""), bytes.fromhex(piece.replace(":", ""))
                # in place of a body's last piece tshark shows all of it, where it has put it together
                bodies[client, number] = new if before and new.startswith(before) else before + new
    yield from bodies.values()


def _objects(file: Path, folder: Path) -> list[bytes]:
    """Every body of HTTP/1, without its transfer coding."""
    _tshark(file, "-Q", "--export-objects", f"http,{folder}")
    return [path.read_bytes() for path in folder.iterdir()]
