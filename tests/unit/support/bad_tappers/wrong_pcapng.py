"""Writes something that begins as pcapng does and goes on with a packet's text and with nonsense."""

import os
import struct

from working import requests

HEADER = struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)
os.write(1, HEADER + struct.pack("<IIHHII", 1, 20, 0, 0, 0, 20))
for method, target in requests():
    text = f"{method} {target} HTTP/1.1\r\n\r\n".encode()
    os.write(1, struct.pack("<IIIIIII", 6, 7, 99, 0xFFFFFFFF, 0, len(text), 0) + text + b"\0\0\0")
