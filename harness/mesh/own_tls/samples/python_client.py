"""An HTTPS client on Python's sockets: `python_client.py URL…` asks each of them, on one connection."""

from __future__ import annotations

import http.client
import ssl
import sys
import urllib.parse

if __name__ == "__main__":
    first = urllib.parse.urlsplit(sys.argv[1])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection(str(first.hostname), first.port, context=context, timeout=20)
    for url in sys.argv[1:]:
        connection.request("GET", urllib.parse.urlsplit(url).path)
        response = connection.getresponse()
        response.read()
        if response.status != 200:
            sys.exit(f"{url} was answered with {response.status}")
