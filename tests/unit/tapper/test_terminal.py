"""What a person at a terminal sees: aligned, as wide as the window, and nothing from the wire that moves the cursor."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from rich.cells import cell_len
from tapper_wire import Capture, Wire, endpoint, get, ok

from tapper.output.escape import printable
from tapper.output.records import Place
from tapper.output.terminal import Terminal, window_width
from tapper.protocols.facts import Tls
from tapper.protocols.headers import HeaderList
from tapper.protocols.records import ExchangeRecord, FactRecord
from tapper.streams.connection import Leg
from tapper.streams.connection import WireSecurity as LegWire
from tapper.streams.legs import Direction
from tapper.targets.pods import PodName

POD = Place("pod", 1, "lo", 77, "10.0.0.2")
SGR = re.compile(r"\x1b\[[0-9;]*m")


def record(request: bytes = get("/orders/1"), answer: bytes | None = None) -> ExchangeRecord:
    wire = Wire((("127.0.0.6", 40000), ("10.0.0.2", 8080)))
    said = ok("x" * 512) if answer is None else answer
    (seen,) = Capture().feed([*wire.handshake(), wire.ask(request), wire.answer(said)]).finish().seen
    return replace(seen, leg=replace(seen.leg, wire=LegWire.TLS))


def shown(width: int, it: ExchangeRecord, *, verbose: bool = False, place: Place = POD) -> list[str]:
    text = Terminal(lambda: width, verbose=verbose).exchange(place, it)
    assert text.endswith("\n")
    return SGR.sub("", text).splitlines()


def test_columns() -> None:
    (line,) = shown(130, record())
    assert " ".join(line.split()[1:]) == "→ 10.0.0.2 127.0.0.6:40000 GET /orders/1 200 512 B 1.0 ms mTLS"
    named = replace(POD, pods={"10.0.0.2": PodName("default", "shop")})
    assert "→  shop  " in shown(130, record(), place=named)[0]


def test_an_outbound_leg_names_the_server() -> None:
    leg = Leg("10.0.0.2", Direction.OUTBOUND, endpoint("10.0.0.2:40000"), endpoint("10.96.0.9:80"))
    (line,) = shown(130, replace(record(), leg=leg))
    assert line.split()[1:4] == ["←", "10.0.0.2", "10.96.0.9:80"]


@pytest.mark.parametrize("width", [200, 130, 110, 100, 80, 60, 40, 30])
def test_a_line_is_never_wider_than_the_window(width: int) -> None:
    """The target keeps the room that is left, and columns make way for it."""
    (line,) = shown(width, record(get("/long/" + "x" * 300)))
    assert cell_len(line) <= width
    assert "GET" in line
    assert "/long/" in line
    assert "…" in line
    assert "200" in line


def test_columns_are_aligned_whatever_is_in_them() -> None:
    several = [record(), record(get("/" + "x" * 300)), record("GET /価格/1 HTTP/1.1\r\n\r\n".encode())]
    lines = [shown(120, it)[0] for it in several]
    assert len({cell_len(line[: line.index("200")]) for line in lines}) == 1
    assert "/価格/1" in lines[2]


def test_wide_characters_are_cut_by_cells() -> None:
    (line,) = shown(80, record(f"GET /{'価' * 100} HTTP/1.1\r\n\r\n".encode()))
    assert cell_len(line) <= 80
    assert "価…" in line.replace(" ", "")


def test_a_resized_window_is_followed() -> None:
    widths = iter([60, 150])
    form = Terminal(lambda: next(widths))
    narrow, wide = (SGR.sub("", form.exchange(POD, record(get("/" + "x" * 300)))).rstrip() for _ in range(2))
    assert cell_len(narrow) <= 60 < cell_len(wide) <= 150


@pytest.mark.parametrize(("status", "colour"), [(204, "32"), (304, "36"), (404, "33"), (503, "1;31")])
def test_colour_changes_nothing_but_colour(status: int, colour: str) -> None:
    it = record(answer=f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())
    coloured = Terminal(lambda: 120).exchange(POD, it)
    plain = Terminal(lambda: 120, colour=False).exchange(POD, it)
    assert f"\x1b[{colour}m{status}\x1b[0m" in coloured
    assert SGR.sub("", coloured) == plain
    assert "\x1b" not in plain


def hostile() -> ExchangeRecord:
    """As a decoder that lets everything pass would have it."""
    body = b"\x1b[2J[red]\x00\x9b"
    exchange = record(answer=b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n" + body).exchange
    request, response = exchange.request, exchange.response
    assert request is not None
    assert response is not None
    target = "/\x1b[2J[bold]\x07\u202eevil\u200b:smile:\u0085".encode().decode("latin-1")
    field = "\x1b]0;pwned\x07\u009b2J".encode().decode("latin-1")
    head = replace(request.head, method="GET\x1b", target=target, fields=HeaderList((("X", field),)))
    answer = replace(response, head=replace(response.head, reason="O\x1b[2JK"))
    return replace(
        record(), exchange=replace(exchange, request=replace(request, head=head), response=answer, incomplete="x")
    )


@pytest.mark.parametrize("verbose", [False, True])
def test_nothing_from_the_wire_reaches_a_terminal_raw(verbose: bool) -> None:
    lines = shown(200, hostile(), verbose=verbose)
    assert all(line.isprintable() for line in lines), lines
    assert r"/\x1b[2J[bold]\x07\u202eevil\u200b:smile:\x85" in lines[0]
    if verbose:
        assert r"    < HTTP/1.1 200 O\x1b[2JK" in lines
        assert r"    > X: \x1b]0;pwned\x07\xc2\x9b2J" in lines
        assert r"    < \x1b[2J[red]\x00\x9b" in lines


def test_verbose_highlights_json_and_changes_nothing_else() -> None:
    body = '{"a": [1, true, null], "b": "x"}'
    answer = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    it = record(answer=answer)
    text = Terminal(lambda: 120, verbose=True).exchange(POD, it)
    assert body not in text
    lines = SGR.sub("", text).splitlines()
    assert lines[1] == "    * mTLS on the wire"
    assert lines[2] == "    > GET /orders/1 HTTP/1.1"
    assert lines[-1] == f"    < {body}"
    plain = record(answer=answer.replace(b"/json", b"/text"))
    assert body in Terminal(lambda: 120, verbose=True).exchange(POD, plain)


def test_a_note_takes_the_room_that_is_left() -> None:
    leg = Leg("10.0.0.2", Direction.NODE, endpoint("10.0.0.9:40000"), endpoint("10.0.0.2:8080"), LegWire.TLS)
    text = SGR.sub("", Terminal(lambda: 90).fact(POD, FactRecord(leg, Tls(5, "shop.\x1b[2J" + "x" * 200, ("h2",)))))
    assert cell_len(text.removesuffix("\n")) <= 90
    assert r"TLS shop.\x1b[2Jxxx" in text
    assert text.split()[2:3] == ["10.0.0.2"]


def test_half_an_exchange() -> None:
    wire = Wire((("127.0.0.6", 40000), ("10.0.0.2", 8080)))
    asked = Capture().feed([*wire.handshake(), wire.ask(get("/a"))]).finish().seen[0]
    assert "/a  (no response seen)" in shown(140, asked)[0]
    assert shown(60, asked)[0].split()[-1] == "-"
    wire = Wire((("127.0.0.6", 40000), ("10.0.0.2", 8080)))
    answered = Capture().feed([*wire.handshake(), wire.answer(ok("x"))]).finish().seen[0]
    assert "(request not seen)" in shown(120, answered)[0]


def test_printable() -> None:
    assert printable("/é".encode().decode("latin-1")) == "/é"
    assert printable("/\xe9") == r"/\xe9"
    assert printable("\x1b\u3042") == r"\x1b\u3042"


def test_the_width_of_no_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("COLUMNS", "132")
    assert window_width(-1) == 132
    monkeypatch.setenv("COLUMNS", "wide")
    assert window_width(-1) == 80
