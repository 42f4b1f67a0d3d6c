"""What a sidecar is configured with: Istio's rules in Istio's order, and a configuration that Envoy itself accepts."""

from __future__ import annotations

import itertools
import json
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID

from harness.mesh import redirect
from harness.mesh.certificates import CertificateAuthority, spiffe_id
from harness.mesh.envoy_config import bootstrap, listeners
from harness.mesh.sidecar import envoy_binary
from harness.mesh.workload import Delivery, Destination, Mode, ProxySpec, UpstreamEndpoint

AUTHORITY = CertificateAuthority()
IDENTITY = AUTHORITY.issue(spiffe_id("default", "server"))


def spec(directory: Path, mode: Mode, delivery: Delivery, mark: int | None = None) -> ProxySpec:
    (directory / "cert-chain.pem").write_bytes(IDENTITY.certificate)
    (directory / "key.pem").write_bytes(IDENTITY.key)
    (directory / "root-cert.pem").write_bytes(AUTHORITY.root)
    endpoints = (UpstreamEndpoint("10.244.0.3", 8080, IDENTITY.uri), UpstreamEndpoint("fd00::3", 8080, None))
    destinations = (
        Destination("shop", "10.96.0.10", 80, endpoints),
        Destination("pod", "fd00::3", 8080, endpoints[1:]),
    )
    return ProxySpec("server", mode, delivery, (8080, 9090), destinations, str(directory), mark)


@pytest.mark.parametrize(("mode", "delivery"), list(itertools.product(Mode, Delivery)))
def test_envoy_accepts_the_configuration(tmp_path: Path, mode: Mode, delivery: Delivery) -> None:
    """The same resources as a static configuration, checked by `envoy --mode validate`."""
    proxy = spec(tmp_path, mode, delivery, mark=1337)
    config = bootstrap.bootstrap(proxy)
    files = bootstrap.discovery_files(proxy, 1)
    del config["dynamic_resources"]
    config["static_resources"] = {
        kind: [
            {key: value for key, value in resource.items() if key != "@type"} for resource in files[name]["resources"]
        ]
        for kind, name in (("clusters", "cds.json"), ("listeners", "lds.json"))
    }
    (tmp_path / "envoy.json").write_text(json.dumps(config))
    argv = [str(envoy_binary()), "--mode", "validate", "-c", str(tmp_path / "envoy.json"), "-l", "error"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "OK" in done.stdout


def chains(tmp_path: Path, mode: Mode) -> list[tuple[str, bool]]:
    """(transport protocol, is TLS terminated) of the inbound filter chains."""
    built = listeners.build(spec(tmp_path, mode, Delivery.PASSTHROUGH))
    (inbound,) = (listener for listener in built if listener["name"] == "virtualInbound|4")
    return [
        (chain["filter_chain_match"]["transport_protocol"], "transport_socket" in chain)
        for chain in inbound["filter_chains"]
    ]


def test_strict_has_no_way_in_but_mtls(tmp_path: Path) -> None:
    assert set(chains(tmp_path, Mode.STRICT)) == {("tls", True)}


def test_permissive_has_all_three_ways_in(tmp_path: Path) -> None:
    assert set(chains(tmp_path, Mode.PERMISSIVE)) == {("tls", True), ("raw_buffer", False), ("tls", False)}


def test_disable_terminates_nothing(tmp_path: Path) -> None:
    assert set(chains(tmp_path, Mode.DISABLE)) == {("raw_buffer", False), ("tls", False)}


def test_rules_are_istios_in_istios_order() -> None:
    rules = [
        line.removeprefix("-A ISTIO_OUTPUT ")
        for line in redirect.sidecar_rules(4).splitlines()
        if "ISTIO_OUTPUT " in line
    ]
    assert rules[1:] == [
        "-s 127.0.0.6/32 -o lo -j RETURN",
        "! -d 127.0.0.1/32 -o lo -p tcp ! --dport 15008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT",
        "-o lo -m owner ! --uid-owner 1337 -j RETURN",
        "-m owner --uid-owner 1337 -j RETURN",
        "! -d 127.0.0.1/32 -o lo -p tcp ! --dport 15008 -m owner --gid-owner 1337 -j ISTIO_IN_REDIRECT",
        "-o lo -m owner ! --gid-owner 1337 -j RETURN",
        "-m owner --gid-owner 1337 -j RETURN",
        "-d 127.0.0.1/32 -j RETURN",
        "-j ISTIO_REDIRECT",
    ]


def test_rules_by_mark_name_no_user() -> None:
    rules = redirect.sidecar_rules(6, mark=1337)
    assert "owner" not in rules
    assert "-s ::6/128 -o lo -j RETURN" in rules
    assert "-m mark --mark 1337 -j RETURN" in rules


def test_identities_are_spiffe_and_signed_by_this_authority_only() -> None:
    certificate = x509.load_pem_x509_certificate(IDENTITY.certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier("spiffe://cluster.local/ns/default/sa/server")]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(AUTHORITY.root))
    with pytest.raises(InvalidSignature):
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(CertificateAuthority().root))
