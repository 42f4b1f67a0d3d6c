"""Health probes on a real connection from 127.0.0.6, as pilot-agent makes it, beside ordinary requests."""

from __future__ import annotations

from collections.abc import Callable

from harness.adapters.reference import RunningTapper
from harness.mesh.mesh import Mesh

StartTapper = Callable[..., RunningTapper]


def test_a_probe_from_the_agent_is_labelled(mesh: Mesh, tapper: StartTapper) -> None:
    client, server = mesh.pod("client"), mesh.pod("server")
    mesh.inject(client, server)
    running, without = tapper([server.pod]), tapper([server.pod], "--no-probes")
    for each in (running, without):
        each.wait_capturing(server.pod)
    probe = ["curl", "-sS", "--interface", "127.0.0.6", "-A", "kube-probe/1.30", f"http://{server.ip}:8080/ready"]
    server.pod.run(probe)
    (sent,) = mesh.send(client, server)
    for each in (running, without):
        each.wait_targets([sent.target])
        each.stop()
    told = {it["target"]: (it["direction"], it.get("probe"), it["mtls"]) for it in running.exchanges}
    assert told == {"/ready": ("inbound", True, None), sent.target: ("inbound", None, True)}
    assert set(without.seen()) == {sent.target}
