"""The API server of kube_server.py as a process of a node, on the node's loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import kube_server

from harness.sandbox.node import Node
from harness.sandbox.process import MINIMAL_ENVIRON, Command, Process


class KubeInNode:
    """`kubeconfig` is the path, inside the node, of a file that leads to it."""

    def __init__(self, node: Node, process: Process, commands: int) -> None:
        self._process = process
        self._write = os.fdopen(commands, "w")
        self.do("begin")
        path = node.run_dir / "kubeconfig"
        path.write_text(kube_server.kubeconfig(self.do("port")))
        self.kubeconfig = node.inside(path)

    def do(self, name: str, *arguments: object) -> Any:
        """Call the server's method, or read its attribute."""
        self._write.write(json.dumps([name, *arguments]) + "\n")
        self._write.flush()
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._write.close()


@contextmanager
def kube_in_node(node: Node) -> Iterator[KubeInNode]:
    """One, until the end of the block."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    command = Command([sys.executable, kube_server.__file__], env=MINIMAL_ENVIRON)
    try:
        process = node.spawn(command, name="kube-server", stdout=subprocess.PIPE, stdin=read_end)
    finally:
        os.close(read_end)
    made = KubeInNode(node, process, write_end)
    try:
        yield made
    finally:
        made.close()
