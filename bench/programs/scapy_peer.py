"""scapy's sniff with its HTTP layer: prints each request's path, and each answer's status and nonce."""

from __future__ import annotations

import sys

from scapy.layers.http import HTTPRequest, HTTPResponse
from scapy.packet import Packet
from scapy.sendrecv import sniff
from scapy.sessions import TCPSession


def show(packet: Packet) -> None:
    if HTTPRequest in packet:
        sys.stdout.write(f"request {packet[HTTPRequest].Path.decode()}\n")
    elif HTTPResponse in packet:
        nonce = (packet[HTTPResponse].Unknown_Headers or {}).get(b"x-nonce", b"")
        sys.stdout.write(f"x-nonce: {nonce.decode()}\n")


if __name__ == "__main__":
    sniff(iface="lo", filter=f"tcp port {sys.argv[1]}", session=TCPSession, store=False, prn=show)
