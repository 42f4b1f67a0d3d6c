"""LOAD, continued: one pod beside another."""

from __future__ import annotations

import threading
import time

from harness.conformance import truth
from harness.conformance.model import Level, case
from harness.conformance.trial import Trial
from harness.conformance.truth import Sent
from harness.mesh import delivery
from harness.mesh.delivery import LoopbackConnection

_PIECE = bytes(range(256)) * 256
_BYTES_PER_S = 4 << 20
_LONGEST_S = 60.0
_ROUNDS, _PAUSE_S = 6, 0.5


@case("LOAD-08", Level.SHOULD, "a node's pods share one tapper")
def noisy_neighbour(trial: Trial) -> None:
    """A tapper SHOULD report the exchanges of one pod while another pod is busy.

    A target takes in an upload of 4 MiB a second that does not end. Meanwhile, for three seconds, requests in another
    target have to be reported within the kit's time limit, and not only once the upload is over.
    """
    noisy, quiet = trial.pod("noisy", record=False), trial.pod("quiet")
    tap = trial.tap(noisy, quiet)
    over = threading.Event()
    sent: list[Sent] = []
    with delivery.inbound(noisy, 8081) as conversation:
        upload = threading.Thread(target=_upload, args=(conversation, over, trial.patience), daemon=True)
        upload.start()
        try:
            for _ in range(_ROUNDS):
                several = truth.deliver(quiet, 5)
                tap.wait_seen(several)
                sent += several
                over.wait(_PAUSE_S)  # the time in which work piles up is what is tried: nobody is waited for
            busy = upload.is_alive()
        finally:
            over.set()
            upload.join()
    tap.end()
    tap.require(busy, "requests reported while the upload went on", "none before its end")
    tap.expect_seen(sent)


def _upload(conversation: LoopbackConnection, over: threading.Event, patience: float) -> None:
    """Send a body at a steady rate until told that it is over."""
    conversation.client_sends(
        truth.request(truth.new_nonce(), method="PUT", headers=[("Content-Length", str(1 << 40))])
    )
    started, sent = time.monotonic(), 0
    while not over.is_set() and (passed := time.monotonic() - started) < _LONGEST_S * patience:
        if sent < passed * _BYTES_PER_S:
            conversation.client_sends(_PIECE)
            sent += len(_PIECE)
        else:
            over.wait(len(_PIECE) / _BYTES_PER_S)
