"""What hostile traffic costs is measured with inputs that are what their names say."""

from __future__ import annotations

import io
import json

import pytest

from bench import __main__ as command
from bench import prices
from harness.errors import HarnessError
from tapper.output import pcapng
from tapper.output.console import Console
from tapper.output.ndjson import Ndjson
from tapper.output.shape import Shape
from tapper.output.sink import Sink
from tapper.run.replay import Replay
from tapper.run.writer import RecordWriter

SMALL = 0.01


def reported(what: str) -> list[dict[str, object]]:
    """The records of one input."""
    file = pcapng.section_header("t") + pcapng.interface(f"{prices.POD} lo", "")
    for number, frame in enumerate(prices.INPUTS[what](SMALL)):
        file += pcapng.packet(0, 1_700_000_000_000_000_000 + number, frame[14:])
    out = io.BytesIO()
    Replay(frozenset(), RecordWriter(Sink(out), Ndjson(), Console(io.StringIO()), Shape())).run(io.BytesIO(file), "x")
    return [json.loads(line) for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("what", prices.INPUTS)
def test_each_input_is_read_to_its_end(what: str) -> None:
    last = reported(what)[-1]
    assert (last["type"], last["malformed"]) == ("bye", 0), last


@pytest.mark.parametrize("what", list(prices.INPUTS)[:2])
def test_normal_exchanges_are_complete(what: str) -> None:
    found = [record for record in reported(what) if record["type"] == "http"]
    assert len(found) >= 13
    assert all(record["status"] == 200 and record["outcome"] == "complete" for record in found)


def test_prices_are_relative_to_the_first_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(prices, "INPUTS", dict(list(prices.INPUTS.items())[:1]))
    (normal,) = prices.measure(SMALL, times=1)
    assert normal.bytes > 9_000
    shown = prices.table([prices.Price("normal", 5, 1000, 0.5), prices.Price("hostile", 5, 100, 0.25)])
    assert "| normal | 200 | 0.00 | 100000.0 | 1.0 |\n| hostile | 20 | 0.00 | 50000.0 | 5.0 |\n" in shown

    def fails(_scale: float) -> list[prices.Price]:
        raise HarnessError("the tapper ended with 1")

    monkeypatch.setattr(prices, "measure", fails)
    assert command.main(["--prices"]) == 3
    assert capsys.readouterr().err == "bench: the tapper ended with 1\n"
