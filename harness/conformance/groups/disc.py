"""DISC: which pods a tapper finds, and which processes it does not take for a target's.

Every "not" is tried the same way. The decoys run before the target's own Envoy does, so that a tapper that sees the
target has had them before its eyes; traffic in the decoys' pod must stay unseen while the target's is reported.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.adapters.contract import Feature
from harness.conformance import truth
from harness.conformance.model import Level, case
from harness.conformance.tap import TrialTap, canary
from harness.conformance.trial import Trial
from harness.mesh import fake_envoy
from harness.mesh.fake_envoy import Variant
from harness.sandbox.pod import Pod

ENVOY = frozenset({Feature.DISCOVERY_ENVOY})
METHOD = "Istio's sidecar template: INSTANCE_IP is status.podIP, the binary is /usr/local/bin/envoy"
PROC = "proc_pid_exe(5)"


def sees_only(tap: TrialTap, targets: Sequence[Pod], others: Sequence[Pod]) -> None:
    """Requests in the targets are reported once, those in the others never; twice, so that a late one is found, too."""
    allowed, forbidden = [], []
    for _ in range(2):
        forbidden += [each for pod in others for each in truth.deliver(pod, 2)]
        round_ = [each for pod in targets for each in truth.deliver(pod, 2)]
        allowed += round_
        tap.settle(round_, *targets)
    tap.end()
    tap.expect_seen(allowed)
    if forbidden:
        tap.expect_never(forbidden, while_seeing=allowed)


@case("DISC-01", Level.MUST, METHOD, features=ENVOY, discovery=True)
def envoy_of_a_target(trial: Trial) -> None:
    """A tapper MUST find an Envoy whose INSTANCE_IP is a target.

    Two pods: in one the binary lies where it does in Istio's image, in a mount namespace of its own, so that the node
    has no file of that path; in the other it is an ordinary file named envoy. The tapper has to capture in both.
    """
    pods = [trial.pod("contained", envoy=Variant.PRIVATE_MOUNT), trial.pod("plain")]
    tap = trial.tap(*pods)
    sees_only(tap, pods, [])


@case("DISC-02", Level.MUST, METHOD, discovery=True)
def envoy_of_another(trial: Trial) -> None:
    """A tapper MUST NOT look into the pod of an Envoy that is no target.

    Two more pods have a sidecar each, which started before the target's. The tapper must not report their traffic.
    """
    others = [trial.pod("neighbour"), trial.pod("stranger")]
    server = trial.pod("server")
    tap = trial.tap(server)
    sees_only(tap, [server], others)


@case("DISC-03", Level.MUST, PROC, features=ENVOY, discovery=True)
def look_alikes(trial: Trial) -> None:
    """A tapper MUST NOT take another process for an Envoy.

    The kernel tells the name of the executable (`/proc/PID/exe`). A process can choose every other name itself. In a
    pod that is no target run `envoy-x`, `notenvoy`, another binary in a directory named envoy, one that only calls
    itself envoy in argv[0], a symbolic link and a script of that name, a file without a path: each with a target's
    INSTANCE_IP. The tapper must not capture in that pod.
    """
    server, other = trial.pod("server", envoy=None), trial.pod("other", envoy=None)
    for variant in Variant:
        if not variant.is_envoy and variant is not Variant.ZOMBIE:
            trial.envoy(other, variant, instance_ip=server.ip)
    trial.envoy(server)
    tap = trial.tap(server)
    sees_only(tap, [server], [other])


@case("DISC-04", Level.SHOULD, f"{PROC}: ' (deleted)' is appended", features=ENVOY, discovery=True)
def deleted_binary(trial: Trial) -> None:
    """A tapper SHOULD find an Envoy whose binary was removed or replaced while it runs.

    An upgrade in place does that, and some images clean up behind themselves. The exe link then ends in ` (deleted)`,
    and the process goes on carrying the pod's traffic.
    """
    pods = [trial.pod("removed", envoy=Variant.DELETED), trial.pod("replaced", envoy=Variant.REPLACED)]
    tap = trial.tap(*pods)
    sees_only(tap, pods, [])


_BUSY = "while :; do /bin/true; done"
_UNREADABLE = 'mount -t tmpfs none "/proc/$0"'
_NO_ENVIRON = 'mount --bind /proc/1/mem "/proc/$0/environ"'


@case("DISC-05", Level.MUST, "proc(5): any read may fail, for any process, at any time", discovery=True)
def troubled_processes(trial: Trial) -> None:
    """A tapper MUST find its targets among processes that end, are unreadable, or have an empty environment.

    Beside the target: a shell that starts short-lived programs all the time, a zombie named envoy, a process without an
    environment, an Envoy without one, a process all of whose files are gone when they are opened, and an Envoy whose
    environment cannot be read (EIO, as an example of an error that does not mean absence). The tapper has to survive
    them, and to capture in its target.
    """
    server, other = trial.pod("server", envoy=None), trial.pod("other", envoy=None)
    trial.envoy(other, Variant.ZOMBIE)
    trial.envoy(other, env=[])
    gone, mute = trial.envoy(other), trial.envoy(other)
    trial.node.run(["sh", "-c", _UNREADABLE, str(gone.pid)])
    trial.node.run(["sh", "-c", _NO_ENVIRON, str(mute.pid)])
    busy = other.spawn(["sh", "-c", _BUSY], name="busy")
    trial.envoy(server)
    tap = trial.tap(server)
    sees_only(tap, [server], [])
    busy.stop()


_OWN_PROCFS = 'mount -t proc proc "$0" && exec "$@"'


@case("DISC-06", Level.MUST, "adapter contract: TAPPER_HARNESS_PROCFS", discovery=True)
def procfs_root(trial: Trial) -> None:
    """A tapper MUST look for processes in the procfs that it is given, and nowhere else.

    In a cluster the tapper runs in a container, the node's procfs is mounted somewhere, and its own /proc shows other
    processes, or the same under other numbers. Here the given procfs is that of a PID namespace in which the target's
    Envoy is process 1. /proc also shows an Envoy of another pod that claims the target's address, so a tapper that
    reads /proc captures in the wrong pod.
    """
    server, wrong = trial.pod("server", envoy=None), trial.pod("wrong", envoy=None)
    root = trial.node.run_dir / "procfs"
    root.mkdir()
    inside = trial.node.inside(root)
    trial.envoy(wrong, instance_ip=server.ip)
    trial.envoy(server, prefix=["unshare", "--pid", "--fork", "sh", "-c", _OWN_PROCFS, inside])
    tap = trial.tap(server, procfs=inside)
    sees_only(tap, [server], [wrong])


@case("DISC-07", Level.MUST, "10.0.0.1 is not 10.0.0.10", discovery=True)
def whole_addresses(trial: Trial) -> None:
    """A tapper MUST match addresses as a whole.

    In a pod that is no target run Envoys whose INSTANCE_IP begins with an address of the target, ends in one, or is a
    beginning of one. A tapper that compares text by prefix, or by containment, captures in that pod.
    """
    server, other = trial.pod("server", envoy=None), trial.pod("other", envoy=None)
    long = "10.244.0.123"
    for near in (f"{server.ip}0", f"{server.ip}1", f"1{server.ip}", long[:-1]):
        trial.envoy(other, instance_ip=near)
    trial.envoy(server)
    tap = trial.tap(server, targets=[trial.target(server, ips=[server.ip, long])])
    sees_only(tap, [server], [other])


_EXACT = "environ(7), proc_pid_environ(5): entries end in NUL, a name ends at the first equals sign"


@case("DISC-08", Level.MUST, _EXACT, features=ENVOY, discovery=True)
def exact_environ(trial: Trial) -> None:
    """A tapper MUST read a process's environment as the C library does.

    In a pod that is no target run Envoys that have the target's address in other places: under names that end in
    INSTANCE_IP or begin with it, in the value of another variable, after a line feed, before a second equals sign, in
    a duplicate that getenv(3) would not return. The target's own Envoy has its INSTANCE_IP behind entries without an
    equals sign, empty ones, bytes that are not UTF-8, the prefix trap, and a string of 128 KiB.
    """
    server, other = trial.pod("server", envoy=None), trial.pod("other", envoy=None)
    ip, elsewhere = server.ip.encode(), other.ip.encode()
    for decoy in (
        [b"XINSTANCE_IP=" + ip],
        [b"INSTANCE_IPS=" + ip],
        [b"OTHER=INSTANCE_IP=" + ip],
        [b"OTHER=x\nINSTANCE_IP=" + ip],
        [b"INSTANCE_IP=" + ip + b"=x"],
        [b"INSTANCE_IP=" + elsewhere, b"INSTANCE_IP=" + ip],
    ):
        trial.envoy(other, env=decoy)
    long = b"LONG=" + b"x" * (131_071 - len(b"LONG="))  # with its NUL the longest that execve(2) takes
    trial.envoy(
        server,
        env=[b"", b"INSTANCE_IP", b"\xff\xfe=\xe9", b"XINSTANCE_IP=" + elsewhere, b"=x", long, b"INSTANCE_IP=" + ip],
    )
    tap = trial.tap(server)
    sees_only(tap, [server], [other])


@case("DISC-09", Level.SHOULD, "Istio in dual stack: INSTANCE_IP is one of status.podIPs", discovery=True)
def another_address(trial: Trial) -> None:
    """A tapper SHOULD find a pod by any of its addresses.

    A dual-stack pod has two addresses and only one INSTANCE_IP. Here the Envoy's INSTANCE_IP is not the first address
    in the tapper's list of targets.
    """
    server = trial.pod("server", envoy=None)
    trial.envoy(server, instance_ip=str(server.ipv6))
    tap = trial.tap(server)
    sees_only(tap, [server], [])


@case("DISC-10", Level.SHOULD, "Linkerd's proxy image", features={Feature.DISCOVERY_LINKERD}, discovery=True)
def linkerd_proxy(trial: Trial) -> None:
    """A tapper SHOULD find a pod by Linkerd's proxy.

    Its executable is named linkerd2-proxy, and its environment has the pod's name but no address. The tapper has to
    read the addresses of the network namespace. A second pod with such a proxy is no target.
    """
    stranger, server = trial.pod("stranger", envoy=None), trial.pod("server", envoy=None)
    for pod in (stranger, server):
        fake_envoy.start_linkerd(pod)
    tap = trial.tap(server)
    sees_only(tap, [server], [stranger])


@case("DISC-11", Level.SHOULD, "Istio's ambient mode: no process of the pod is a proxy", discovery=True)
def ambient_pod(trial: Trial) -> None:
    """A tapper SHOULD look into a pod without a sidecar, or say that it cannot.

    In ambient mode, and wherever a sidecar was forgotten, there is no Envoy by which a pod could be found. A tapper
    that says nothing about such a target looks as if nothing had been sent. Either its traffic is reported, or a line
    of the tapper's standard error names the pod (a list of all targets is not enough).
    """
    ambient, server = trial.pod("ambient", envoy=None), trial.pod("server")
    tap = trial.tap(ambient, server, look=[server])
    sent = canary(ambient)

    def told() -> bool:
        lines = tap.under_test.stderr.text().splitlines()
        return any(_names(line, ambient) and not _names(line, server) for line in lines) or tap.mentions(sent)

    tap.wait_for(told, f"traffic of {ambient.ip}, which has no sidecar, or a word about it on standard error")


def _names(line: str, pod: Pod) -> bool:
    words = line.replace(",", " ").replace(":", " ").replace("'", " ").replace('"', " ").split()
    return any(name in words for name in (pod.ip, pod.name))


@case("DISC-12", Level.MUST, "RFC 4291, section 2.2", features={Feature.IPV6, Feature.DISCOVERY_ENVOY}, discovery=True)
def spellings(trial: Trial) -> None:
    """A tapper MUST take all spellings of an IPv6 address for one address.

    Two pods: the Envoy of one spells its INSTANCE_IP in full and in capitals, the other pod is named so in the list of
    targets. Kubernetes, Envoy and people do not agree on one spelling.
    """
    shouted, whole = trial.pod("shouted", envoy=None), trial.pod("whole", envoy=None)
    trial.envoy(shouted, instance_ip=shouted.ipv6.exploded.upper())
    trial.envoy(whole, instance_ip=str(whole.ipv6))
    targets = [
        trial.target(shouted, ips=[str(shouted.ipv6)]),
        trial.target(whole, ips=[whole.ipv6.exploded.upper()]),
    ]
    tap = trial.tap(shouted, whole, targets=targets)
    sees_only(tap, [shouted, whole], [])


@case(
    "DISC-13",
    Level.SHOULD,
    "proc(5): a leader that has ended has no exe, its threads have",
    features=ENVOY,
    discovery=True,
)
def odd_envoys(trial: Trial) -> None:
    """A tapper SHOULD find an Envoy in an unusual state.

    The main thread of the first Envoy has ended while other threads go on. The second has changed its root directory
    (chroot). The third was renamed after its start. Each carries its pod's traffic like any other Envoy.
    """
    pods = [
        trial.pod(each.name.lower().replace("_", "-"), envoy=each)
        for each in (Variant.LEADER_GONE, Variant.CHROOT, Variant.RENAMED)
    ]
    tap = trial.tap(*pods)
    sees_only(tap, pods, [])
