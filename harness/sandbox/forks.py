"""Starting keepers by a fork: one interpreter is started for each owner, and not one for each of its nodes.

    owner (pytest)  ->  fork server  ->  keeper (harness.sandbox.init)  ->  init (PID 1 of the node)

The server has imported what a keeper needs and does nothing but fork: a node costs two thousandths of a second
instead of twenty-five. It has one thread and never leaves the machine's namespaces. It ends when the owner's end of its
socket is closed, which the kernel does for an owner that is killed. The nodes do not depend on it: their keepers watch
the owner themselves.

This module is the server's side as well, and has to be cheap to import (`harness.sandbox.init` says how).
"""

from __future__ import annotations

import os
import select
import socket
import sys

from harness.sandbox import init, protocol, syscalls

TYPE_CHECKING = False  # typing's own would cost its import
if TYPE_CHECKING:
    from typing import NoReturn


def main(orders_fd: int) -> NoReturn:
    """Fork a keeper for each order, which is three descriptors: its control socket, its owner's pidfd, its log.

    The answer is the keeper's pid and its pidfd.
    """
    orders = socket.socket(fileno=orders_fd)
    orders.set_inheritable(False)
    syscalls.set_name("node-forks")
    poller = select.poll()
    poller.register(orders, select.POLLIN)
    keepers: dict[int, int] = {}
    while True:
        for fd, _ in poller.poll():
            if fd in keepers:
                poller.unregister(fd)
                os.close(fd)
                os.waitpid(keepers.pop(fd), 0)
                continue
            try:
                _, given = protocol.receive(orders)
            except protocol.PeerGone:
                os._exit(0)
            pid = os.fork()
            if pid == 0:
                for inherited in (orders.detach(), *keepers):
                    os.close(inherited)
                _become_keeper(*given)
            for descriptor in given:
                os.close(descriptor)
            pidfd = os.pidfd_open(pid)
            keepers[pidfd] = pid
            poller.register(pidfd, select.POLLIN)
            try:
                protocol.send(orders, {"pid": pid}, [pidfd])
            except protocol.PeerGone:
                os._exit(0)


def _become_keeper(control: int, owner: int, log: int) -> NoReturn:
    """Runs in the forked child, and must not return."""
    try:
        os.setsid()  # the owner handles a Ctrl-C at the terminal
        for standard in (1, 2):
            os.dup2(log, standard)
        os.close(log)
        init.main(control, owner)
    except BaseException as error:
        sys.stderr.write(f"the node's keeper: {error!r}\n")
    finally:
        os._exit(1)
