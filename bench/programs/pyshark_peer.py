"""pyshark's live capture: prints each request's path, and each answer's header lines."""

from __future__ import annotations

import signal
import sys

import pyshark


def main() -> None:
    # at SIGINT, print the packets that have arrived; tshark is in this session and gets the signal, too
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    capture = pyshark.LiveCapture(interface="lo", bpf_filter=f"tcp port {sys.argv[1]}", display_filter="http")
    for packet in capture.sniff_continuously():
        http = packet.http
        if "request_uri" in http.field_names:
            sys.stdout.write(f"request {http.request_uri}\n")
        else:
            lines = [field.get_default_value() for field in http.response_line.all_fields]
            sys.stdout.write("".join(f"{line}\n" for line in lines if line.startswith("x-nonce")))


if __name__ == "__main__":
    main()
