"""What is made of measurements: rounds, medians, goals, tables, files."""

from __future__ import annotations

import csv
import importlib.util
import io
import struct
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from bench import document, plot, result, rounds, scaling, table, words
from bench.goals import Goal, forms, goals, goals_of_curves
from bench.measure import Measurement
from bench.peers import PEERS, PURE, WITHOUT_FAST, Peer, both, by_name, records
from bench.profile import by_concept, by_function
from bench.result import Point, Result
from bench.workloads import PATH, Protocol, Workload


def measured(peer: str, seconds: float, workload: str = rounds.BASE, seen: int = 10_000) -> Measurement:
    return Measurement(workload, peer, 10_000, 1500.0, seconds, seen=seen, dropped=0, pss_kib=20 << 10)


def a_run() -> Result:
    found = Result(quick=True, date="2026-01-01", machine={"load before": "0 0 0", "load after": "1 1 1"})
    found.versions = {"tapper": "tapper 1, pure Python", "httpry": "httpry 0.1.8"}
    found.profile = {"tapper.run.tap:LiveTap._turn": 1, "tapper.streams.packet:parse": 2, "tapper.streams.legs:legs": 1}
    found.absent = {"suricata": "no package"}
    found.measurements = [
        *(measured("tapper", seconds) for seconds in (0.2, 9.0, 0.3)),
        *(measured("tcpdump -w", seconds) for seconds in (0.1, 0.0, 7.0)),
        measured("tshark ek", 4.5),
        Measurement(rounds.BASE, "ngrep", died="it had a\nbad day"),
        measured("tapper", 0.3, rounds.UNHURRIED, seen=9_999),
        measured("tapper", 0.3, rounds.HIGHEST, seen=9_995),
    ]
    found.problems = ["namespaces: no room"]
    found.points = [Point(scaling.OPENING, 250, 0.5, "s"), Point(scaling.SCAN, 1000, 0.5, "ms CPU")]
    return found


def verdicts(found: Result, form: str = "pure Python") -> dict[str, Goal]:
    return {goal.name: goal for goal in [*goals(found, form), *goals_of_curves(found)]}


def test_goals_are_ratios_of_medians() -> None:
    found = verdicts(a_run())
    assert found["the tapper against tcpdump -w"].value == pytest.approx(0.3 / 0.1)
    assert found["tshark ek against the tapper"].value == pytest.approx(4.5 / 0.3)
    assert found["the tapper against tcpdump -w"].verdict == "pass"
    assert found["tshark ek against the tapper"].verdict == "miss"


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    found = verdicts(a_run())
    for name in ("suricata against the tapper", "the tapper against httpry", "a scan of 5,000 processes, nothing new"):
        assert found[name].verdict == "not measured", name


def test_a_single_exchange_missing_is_a_loss_where_none_may_be() -> None:
    found = verdicts(a_run())
    assert found[f"seen at {rounds.UNHURRIED}"].verdict == "miss"
    assert found[f"seen at {rounds.HIGHEST}"].verdict == "pass"


def test_the_compiled_form_has_goals_of_its_own() -> None:
    compiled = a_run()
    compiled.versions["tapper"] = "tapper 1, compiled"
    assert list(forms(compiled)) == ["compiled"]
    assert verdicts(compiled, "compiled")["tshark ek against the tapper"].limit == 45.0
    assert list(forms(a_run())) == ["pure Python"]
    assert verdicts(a_run())["tshark ek against the tapper"].limit == 19.0


def test_both_forms_are_judged_each_by_its_own_measurements() -> None:
    both_forms = a_run()
    both_forms.versions |= {"tapper": "tapper 1, compiled", PURE: "tapper 1, pure Python (TAPPER_PURE is set)"}
    both_forms.measurements += [measured(PURE, 0.9)]
    assert forms(both_forms) == {"compiled": "tapper", "pure Python": PURE}
    assert verdicts(both_forms, "compiled")["the tapper against tcpdump -w"].value == pytest.approx(3.0)
    assert verdicts(both_forms)["the tapper against tcpdump -w"].value == pytest.approx(9.0)
    text = table.goals_tables(both_forms)
    assert [line.split("|")[2].strip() for line in text.splitlines() if line.startswith("| goal")] == [
        "compiled",
        "pure Python",
        "in either form",
    ]


@pytest.mark.parametrize(
    ("version", "compiled"),
    [
        ("tapper 1, compiled", True),
        ("tapper 1, pure Python", False),
        ("tapper 1, pure Python (tapper/protocols/heads.py has changed since it was compiled)", False),
    ],
)
def test_a_plain_form_is_a_peer_only_beside_a_compiled_one(
    version: str, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Peer, "version", lambda _: version)
    tapper, plain = by_name(f"tapper,{PURE}")
    assert tapper.missing is None
    assert (plain.missing is None) == compiled
    assert plain.env is not None
    assert plain.env["TAPPER_PURE"] == "1"


@pytest.mark.parametrize("there", [True, False])
def test_the_tapper_without_fast_parts_is_a_peer_only_if_the_folder_exists(
    there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object() if there else None)
    (plain,) = by_name(WITHOUT_FAST)
    assert (plain.missing is None) == there
    assert plain.env is not None
    assert plain.env["TAPPER_PLAIN"] == "1"
    assert "TAPPER_PURE" not in plain.env


def test_the_tapper_without_fast_parts_has_no_goals() -> None:
    found = a_run()
    found.versions[WITHOUT_FAST] = "tapper 1, pure Python"
    found.measurements.append(measured(WITHOUT_FAST, 0.9))
    assert forms(found) == {"pure Python": "tapper"}
    assert verdicts(found)["the tapper against tcpdump -w"].value == pytest.approx(0.3 / 0.1)


def test_a_profile_is_summed_up_by_concept_and_by_function() -> None:
    samples = a_run().profile
    assert by_concept(samples) == {"tapper.streams": 0.75, "tapper.run": 0.25}
    assert by_function(samples, 1) == {"tapper.streams.packet:parse": 0.5}
    assert "4 samples" in table.everything(a_run())


def test_a_table_is_sorted_by_cost_and_names_the_dead() -> None:
    text = table.summary(a_run(), rounds.BASE)
    order = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")][2:]
    assert order == ["tcpdump -w", "tapper", "tshark ek"]
    assert "ngrep gave no number: it had a bad day" in text
    assert "15.00" in text  # tshark ek against the tapper


def test_the_highest_rate_without_loss_counts_only_what_lost_nothing() -> None:
    found = a_run()
    found.measurements.append(replace(measured("tapper", 0.3, rounds.HIGHEST, seen=9_999), rate=20_000.0))
    found.measurements.append(replace(measured("tcpdump -w", 0.3, rounds.HIGHEST), rate=20_000.0))
    lines = table.highest_rates(found).splitlines()[2:]
    assert [[cell.strip() for cell in line.split("|")[1:3]] for line in lines] == [
        ["tcpdump -w", "20000"],
        ["tapper", "1500"],
    ]  # tshark ek was given one rate only


def test_a_rate_counts_if_nothing_is_lost_in_any_round() -> None:
    found = a_run()
    found.measurements.append(replace(measured("tapper", 0.3, rounds.BASE, seen=9_999), rate=1400.0))
    (row,) = [line for line in table.highest_rates(found).splitlines() if line.startswith("| tapper")]
    assert [cell.strip() for cell in row.split("|")[1:4]] == ["tapper", "none", "1400"]


def test_the_slow_are_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def measure(_: object, peer: Peer, workload: Workload) -> Measurement:
        asked.append(peer.name)
        return Measurement(workload.name, peer.name)

    monkeypatch.setattr(rounds, "measure", measure)
    monkeypatch.setattr(rounds, "site", lambda _: nullcontext())
    plan = (rounds.Entry(Workload("x"), rounds=3),)
    list(rounds.run(plan, by_name("tcpdump -w,scapy"), lambda _: None))
    assert sorted(asked) == ["scapy", "tcpdump -w", "tcpdump -w", "tcpdump -w"]


def test_a_run_is_saved_and_read_again(tmp_path: Path) -> None:
    found = a_run()
    found.save(tmp_path)
    assert result.load(tmp_path / "bench.json") == found
    lines = list(csv.DictReader(io.StringIO((tmp_path / "bench.csv").read_text())))
    assert lines[0]["per_10k"] == "0.2"
    assert len(lines) == len(found.measurements)
    plot.draw(found, tmp_path / "bench.png")
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_the_document_tells_of_a_quick_run_and_of_who_is_absent() -> None:
    page = document.page(a_run())
    assert "Preliminary" in page
    assert "Absent: suricata" in page
    assert "Preliminary" not in document.page(replace(a_run(), quick=False))


def test_the_document_begins_with_its_result_in_words() -> None:
    """Medians 0.3 s for 10,000 exchanges against 0.1, 3 and 4.5; one exchange was lost at the higher rates."""
    found = a_run()
    found.measurements = [
        replace(each, rate=1500.0 if each.workload == rounds.BASE else 6000.0) for each in found.measurements
    ]
    found.measurements.append(measured("tshark fields", 3.0))
    found.points.append(Point(scaling.GROWTH, 320_000, 0.0, "%"))
    assert words.in_short(found) == (
        "To decode 10,000 small HTTP/1.1 exchanges at 1,500 a second the tapper takes 0.300 s of processor time. "
        "That is 3.0 times what `tcpdump -w` takes to copy the packets to a file. "
        "`tshark fields` takes 10 times as much as the tapper. `tshark ek` takes 15 times as much as the tapper. "
        "The tapper lost nothing up to 1,500 exchanges a second, and something at 6,000. "
        "It holds 20 MiB of memory without its capture rings, and no more after 320,000 exchanges."
    )
    assert document.page(found).splitlines()[2].startswith("To decode 10,000 small")


def test_the_words_are_silent_of_figures_that_were_not_measured() -> None:
    assert words.in_short(Result(quick=True)) == ""


def test_the_words_compare_the_two_forms() -> None:
    found = a_run()
    found.versions["tapper"] = "tapper 1, compiled"
    found.versions[PURE] = "tapper 1, pure Python"
    found.measurements.append(measured(PURE, 0.9))
    assert words.in_short(found).endswith("plain Python takes 3.0 times the processor time.")


def test_the_words_say_what_the_fast_parts_buy() -> None:
    found = a_run()
    found.measurements.append(measured(WITHOUT_FAST, 0.6))
    assert words.in_short(found).endswith(
        "Without the folder tapper/fast the tapper takes 2.0 times the processor time."
    )


def test_every_peer_begins_a_round() -> None:
    peers = PEERS[:3]
    assert [rounds.turned(peers, number)[0].name for number in range(4)] == [
        *(peer.name for peer in peers),
        peers[0].name,
    ]
    assert all(sorted(p.name for p in rounds.turned(peers, n)) == sorted(p.name for p in peers) for n in range(4))


def test_a_slow_peer_is_given_less_at_a_lower_rate() -> None:
    (scapy,) = by_name("scapy")
    given = rounds.scaled(Workload("x", requests=3200, rate=1500), scapy)
    assert (given.requests, given.rate) == (320, 150)


def test_an_unknown_peer_is_an_error_that_names_the_known() -> None:
    with pytest.raises(ValueError, match=r"no such peer: netcat\. The peers are tapper, "):
        by_name("tapper,netcat")


NONCE, OTHER = "0123456789abcdef", "fedcba9876543210"


def test_an_exchange_is_a_request_and_its_answer() -> None:
    output = f"GET /500{PATH}{NONCE} HTTP/1.1\nGET /500{PATH}{OTHER} HTTP/1.1\nx-nonce: {NONCE}\n".encode()
    assert both()(output) == Counter([NONCE])
    assert both(answer=None)(output) == Counter([NONCE, OTHER])


def test_the_tapper_is_not_believed_a_wrong_pair() -> None:
    def record(target: str | None, answered: str, status: int = 200) -> bytes:
        path = "null" if target is None else f'"/500{PATH}{target}"'
        headers = f'{{"headers": [["x-nonce", "{answered}"]]}}'
        return f'{{"type": "http", "target": {path}, "status": {status}, "response": {headers}}}\n'.encode()

    assert records(record(NONCE, NONCE)) == Counter([NONCE])
    assert records(record(NONCE, OTHER)) == Counter([f"not the answer to {NONCE}"])
    assert not records(record(None, OTHER))
    assert not records(record(NONCE, NONCE, status=404))


def test_what_cannot_be_told_of_compressed_headers_is_no_loss() -> None:
    (tcpdump,) = by_name("tcpdump -w")
    assert tcpdump.reported(b"anything", Protocol.HTTP2) is None
    assert tcpdump.reported(b"anything", Protocol.HTTP1) == Counter()


def test_drops_are_read_from_what_was_said() -> None:
    tcpdump, dumpcap, tapper = by_name("tcpdump -w,dumpcap,tapper")
    assert tcpdump.dropped("5 packets captured\n12 packets dropped by kernel\n", b"") == 12
    assert dumpcap.dropped("Packets received/dropped on interface 'lo': 18/7 (pcap:7/dumpcap:0)", b"") == 7
    assert tapper.dropped("", b'{"type":"stat","dropped":3}\n') == 3
    assert tcpdump.dropped("", b"") is None


def test_a_gap_is_cut_from_the_middle() -> None:
    def packet(ts: float, data: bytes) -> bytes:
        return struct.pack("=IIII", int(ts), round(ts % 1 * 1e6), len(data), len(data)) + data

    nonces = [f"{number:016x}" for number in range(11)]
    packets = [packet(100 + number / 10, f"GET {PATH}{nonce} ".encode()) for number, nonce in enumerate(nonces)]
    kept, after = scaling.cut(bytes(24) + b"".join(packets), 0.2)
    assert kept == bytes(24) + b"".join(packets[:5] + packets[7:])
    assert after == nonces[7:]
