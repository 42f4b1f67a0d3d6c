"""A stand-in for Istio's ztunnel in the sandbox: one process of the node, which encrypts for its pods.

It runs in the node's own network namespace and holds sockets inside the namespaces of the pods, which have no sidecar.
The rules in a pod are those of Istio's ambient mode (cni/pkg/iptables of istio/istio, release 1.28): connections of the
application go to port 15001, those of other pods are mTLS on port 15008, and those to the application keep their
caller's address, so that nothing on `lo` is from 127.0.0.6. The mTLS carries HTTP/1.1 CONNECT instead of HBONE's
HTTP/2.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from harness.mesh.certificates import CertificateAuthority, spiffe_id
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod
from harness.sandbox.process import Command, Process
from harness.waiting import wait_until

MARK = 0x539
"""The socket mark of ztunnel's own connections."""
OUTBOUND, HBONE = 15001, 15008
_RETURN_MARK, _TABLE = 0x111, 100
_RULES = f"""*mangle
-A PREROUTING -m mark --mark {MARK}/0xfff -j CONNMARK --set-xmark {_RETURN_MARK}/0xfff
-A OUTPUT -m connmark --mark {_RETURN_MARK}/0xfff -j CONNMARK --restore-mark
COMMIT
*nat
-A OUTPUT -d 127.0.0.1/32 -j ACCEPT
-A OUTPUT -p tcp -m mark --mark {_RETURN_MARK}/0xfff -j ACCEPT
-A OUTPUT -o lo -p tcp -m mark ! --mark {MARK}/0xfff -j ACCEPT
-A OUTPUT -p tcp -m mark ! --mark {MARK}/0xfff -j REDIRECT --to-ports {OUTBOUND}
COMMIT
"""
_ROUTES = f"""
ip rule add fwmark {_RETURN_MARK}/0xfff pref 32764 lookup {_TABLE}
ip route add local 0.0.0.0/0 dev lo table {_TABLE}
"""


def start(node: Node, pods: Sequence[Pod], environ: dict[str, str]) -> Process:
    """Take these pods into the mesh. Returns when ztunnel serves; it ends with the node."""
    folder = node.run_dir / "ztunnel"
    folder.mkdir()
    authority = CertificateAuthority()
    identity = authority.issue(spiffe_id("istio-system", "ztunnel"))
    for name, content in (("cert", identity.certificate), ("key", identity.key), ("root", authority.root)):
        (folder / f"{name}.pem").write_bytes(content)
    for pod in pods:
        pod.run(["iptables-restore", "--noflush"], text=_RULES)
        pod.run(["sh", "-ec", _ROUTES])
    (folder / "pods.json").write_text(json.dumps({pod.ip: pod.pause_pid for pod in pods}))
    argv = [sys.executable, "-m", "harness.worlds.programs.ztunnel", node.inside(folder)]
    process = node.spawn(Command(argv, env=environ), name="ztunnel")
    wait_until(lambda: "ready" in process.read_log(), "the ztunnel to serve", logs=process.read_log)
    return process
