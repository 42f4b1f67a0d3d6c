"""TLS, continued: processes and libraries that come and go, what cannot be read, and what is left behind."""

from __future__ import annotations

import re
import signal

from harness.adapters.contract import Feature
from harness.conformance import expect, own_tls, truth
from harness.conformance.audit import code
from harness.conformance.groups.tls import OWN_TLS
from harness.conformance.model import Level, case
from harness.conformance.own_tls import inbound, one_of, outbound, speak
from harness.conformance.tap import TrialTap
from harness.conformance.trial import Trial
from harness.conformance.truth import Sent
from harness.errors import InternalError
from harness.mesh.own_tls.ends import PORT, TlsProgram, connect
from harness.mesh.own_tls.unreadable import UnreadableProgram
from harness.sandbox.frames import endpoint
from harness.sandbox.pod import Pod

_FLOOD = 24
"""Responses of a mebibyte each: more than most buffers hold."""
_FIRST_STATUS = 210
"""The status of the first of them; the next one's is greater by one. All of these have a body."""
_OF_CAPTURES = frozenset({"source", "stat"})
"""Records about the capture in a pod, which name a process of it that may be any."""
_TRIES = 20
_ENDS_S = 2.0


@case(
    "TLS-06",
    Level.MUST,
    "ecapture loses three quarters at 84 requests a second, and says nothing of it",
    features=OWN_TLS,
)
def loses_aloud(trial: Trial) -> None:
    """A tapper that claims `tls` MUST count what it loses, and MUST NOT pair a request with another response after it.

    It is stopped (SIGSTOP) while 24 responses of 1 MiB pass on one connection, and goes on. It may lose some. Each
    exchange that it reports has its own response or none, and a connection that begins later is reported whole. A
    tapper that claims `drop_counters` may not count fewer drops than exchanges lack their response: in the `stat`
    records of the pod's network namespace, if it writes any, else in all its `stat` and `bye` records.
    """
    trial.may_lose = True
    client, server = trial.node.pod("client"), trial.node.pod("server")
    ours, theirs = trial.tls_program(client), trial.tls_program(server)
    leg = inbound(server)
    tap = own_tls.tap(trial, [server], lambda: one_of(ours, theirs, leg))
    tap.under_test.family.send_signal(signal.SIGSTOP)
    with connect(ours, theirs) as connection:
        flood = [speak(connection, leg, status=_FIRST_STATUS + number, filler=1 << 20) for number in range(_FLOOD)]
    tap.under_test.family.send_signal(signal.SIGCONT)
    later = own_tls.look(tap, lambda: one_of(ours, theirs, leg))
    later += one_of(ours, theirs, leg, count=3)
    tap.settle(later[-3:])
    tap.end()
    tap.expect_paired_right(flood, while_seeing=later[-3:])
    if Feature.DROP_COUNTERS in trial.adapter.claims:
        answered = {nonce for seen in tap.seen if seen.status for nonce in truth.nonces_in(seen.target or "")}
        lost = sum(each.nonce not in answered for each in flood)
        told = tap.records("stat") + tap.records("bye")
        told = [record for record in told if record.get("netns") == server.netns_inode] or told
        dropped = max((int(record.get("dropped") or 0) for record in told), default=0)
        tap.require(dropped >= lost, f"at least {lost} drops told, so many exchanges lacking something", str(dropped))


@case("TLS-07", Level.MUST, "dlopen(3): a library is mapped when it is first used", features=OWN_TLS)
def late_library(trial: Trial) -> None:
    """A tapper that claims `tls` MUST find a library that is loaded late, and a process that is started late.

    One process of a target runs before the tapper, and loads its TLS library later. Another one starts later. Each
    loads a file of its own, as in a container's own file system. The requests of both are reported for both legs within
    the kit's time limit.
    """
    client, server = trial.node.pod("client"), trial.node.pod("server")
    early, theirs = trial.tls_program(client), trial.tls_program(server)
    last_loaded = trial.tls_program(client, late=True, own_library=True)
    legs = outbound(client), inbound(server)
    tap = own_tls.tap(trial, [client, server], lambda: one_of(early, theirs, *legs))
    last_loaded.load()
    _look_at_both_legs(tap, last_loaded, theirs, "loaded its TLS library last")
    last_started = trial.tls_program(client, own_library=True)
    _look_at_both_legs(tap, last_started, theirs, "started last")
    sent = [each for program in (last_loaded, last_started) for each in one_of(program, theirs, *legs, count=2)]
    tap.settle(sent)
    tap.end()
    tap.expect_exactly_once(sent)


def _look_at_both_legs(tap: TrialTap, client: TlsProgram, server: TlsProgram, what: str) -> None:
    """Prove that the client's side is read, too, and not the server's alone."""
    sent: list[Sent] = []

    def at_the_client() -> bool:
        sent.extend(one_of(client, server, outbound(client.pod), inbound(server.pod)))
        return any(len(expect.of(each, tap.reported())) > 1 for each in sent)

    tap.wait_for(at_the_client, f"both legs of an HTTPS request of a process that {what}")


@case("TLS-08", Level.SHOULD, "users of such tools ask first: which of my pods can be read?", features=OWN_TLS)
def names_unreadable(trial: Trial) -> None:
    """A tapper that claims `tls` SHOULD name each process of a target whose TLS it cannot read.

    Of two targets one has a process with a library that can be read. The other one's process does TLS with an OpenSSL
    without symbols, inside an extension module of Python (package cryptography): no function can be found by its name.
    A tapper reports what this process says, or names the pod and the process id: in one record, or in one line of
    standard error. It does not say so of the process that it reads.
    """
    client, server = trial.node.pod("client"), trial.node.pod("server")
    leg = outbound(client)
    theirs = trial.tls_program(server)
    with UnreadableProgram(client) as hidden:
        tap = own_tls.tap(trial, [client, server], lambda: [_hidden(hidden, theirs)])
        unread = hidden.process.pid
        tap.wait_for(
            lambda: _names(tap, client, unread) or any(expect.names_pod(each, leg) for each in tap.reported()),
            f"the requests of {truth.in_words(client)}, or a word about its process {unread}, whose TLS library has no "
            "symbols",
        )
        tap.end()
    tap.require(
        not _names(tap, server, theirs.process.pid),
        f"no word about process {theirs.process.pid} of {truth.in_words(server)}, which it reads",
        "a line or a record that names both",
    )


def _hidden(hidden: UnreadableProgram, server: TlsProgram) -> Sent:
    """A request of the process that cannot be read, of which a tapper can see the server's side."""
    nonce = truth.new_nonce()
    src = hidden.exchange(server, truth.request(nonce), truth.response(nonce, body=b"ok\n"))
    dst = str(server.pod.ipv4), PORT
    leg = inbound(server.pod)
    return Sent(nonce, "GET", truth.target_of(nonce), 200, (leg,), endpoint(*src), endpoint(*dst), b"", b"ok\n")


def _names(tap: TrialTap, pod: Pod, pid: int) -> bool:
    """Whether a line of standard error names a pod's address and a process id, or a record of a type of its own has
    them: the id as its member `pid`."""
    address, process = (re.compile(rf"(?<![\d.]){re.escape(str(what))}(?!\.?\d)") for what in (pod.ip, pid))
    lines = tap.under_test.stderr.text().splitlines()
    records = [each for each in tap.running.others() if each["type"] not in _OF_CAPTURES and each.get("pid") == pid]
    return any(address.search(line) and process.search(line) for line in lines) or any(
        address.search(str(value)) for record in records for value in record.values()
    )


@case("TLS-09", Level.MUST, "nginx: SSL_free(3), and the next SSL_new(3) gets the same address", features=OWN_TLS)
def same_address(trial: Trial) -> None:
    """A tapper that claims `tls` MUST tell two connections apart whose library objects have the same address.

    A connection ends in the middle of a request, without a word to the library's other side. The object of the next one
    is allocated at the same address. The exchange on the later connection is reported once, with its own ends.
    """
    target, stranger = trial.node.pod("target"), trial.node.pod("stranger")
    ours, theirs = trial.tls_program(target), trial.tls_program(stranger)
    leg = outbound(target)
    tap = own_tls.tap(trial, [target], lambda: one_of(ours, theirs, leg))
    sent = _on_the_same_object(ours, theirs)
    tap.settle(sent)
    tap.end()
    tap.expect_exactly_once(sent)
    own_tls.expect_ends(sent, tap.seen)


def _on_the_same_object(ours: TlsProgram, theirs: TlsProgram) -> list[Sent]:
    """Exchanges on connections of `ours`, until one's object has the address of the one before."""
    sent: list[Sent] = []
    before = 0
    for _ in range(_TRIES):
        connection = connect(ours, theirs)
        sent.append(speak(connection, outbound(ours.pod)))
        if before == connection.client.object:
            connection.close()
            return sent
        before = connection.client.object
        connection.client_sends(truth.request(truth.new_nonce(), method="POST", body=b"half a body")[:-6])
        connection.close()
    raise InternalError(f"no object of {_TRIES} connections was allocated at the address of the one before")


@case(
    "TLS-10",
    Level.MUST,
    "Linux, Documentation/trace/uprobetracer: a breakpoint replaces the first byte of an instruction",
    features=OWN_TLS,
)
def leaves_no_breakpoint(trial: Trial) -> None:
    """A tapper that claims `tls` MUST leave no breakpoint in a library when it has ended, even by SIGKILL.

    The instructions of the library in the memory of a target's process are compared before the tapper starts and after
    it has ended: once by its stop signal, once by SIGKILL. They have to be the same, and the process goes on. The
    library is a copy that nobody else on the machine uses: a breakpoint of another tapper would be in all processes
    that have mapped the same file.
    """
    client, server = trial.node.pod("client"), trial.node.pod("server")
    ours, theirs = (trial.tls_program(pod, own_library=True) for pod in (client, server))
    legs = outbound(client), inbound(server)
    before = code.of_library(theirs.process.host_pid)
    for end in ("its end", "its end by SIGKILL"):
        tap = own_tls.tap(trial, [client, server], lambda: one_of(ours, theirs, *legs))
        if end == "its end":
            tap.end()
        else:
            tap.kill()
        tap.wait_for(
            lambda: code.of_library(theirs.process.host_pid) == before,
            f"the instructions of libssl in a process of {truth.in_words(server)} to be as before {end}",
            _ENDS_S,
            instead=lambda: code.differences(before, code.of_library(theirs.process.host_pid)),
        )
        one_of(ours, theirs, *legs)
