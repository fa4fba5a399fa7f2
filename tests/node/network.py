"""HTTP to addresses that only exist in the node's network, from a process of the machine."""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import socket
import threading
from typing import Any

_CLONE_NEWNET = 0x40000000


def socket_of(pid: int) -> socket.socket:
    """Return a TCP socket that belongs to the network of a process.

    A socket stays in the network in which it was made; only a thread of its own enters it.

    Raises:
        OSError: the network cannot be entered.
    """
    made: list[socket.socket | OSError] = []
    library = ctypes.CDLL(None, use_errno=True)

    def enter_and_make() -> None:
        descriptor = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        try:
            if library.setns(descriptor, _CLONE_NEWNET):
                made.append(OSError(ctypes.get_errno(), "setns"))
            else:
                made.append(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        finally:
            os.close(descriptor)

    thread = threading.Thread(target=enter_and_make)
    thread.start()
    thread.join()
    (result,) = made
    if isinstance(result, OSError):
        raise result
    return result


class NodeConnection(http.client.HTTPConnection):
    """A connection to an address in the network of a process."""

    def __init__(self, pid: int, host: str, port: int, *, timeout: float = 10) -> None:
        super().__init__(host, port, timeout=timeout)
        self._pid = pid

    def connect(self) -> None:
        """Connect from within that network."""
        made = socket_of(self._pid)
        made.settimeout(self.timeout)
        try:
            made.connect((self.host, self.port))
        except OSError:
            made.close()
            raise
        self.sock = made


def request(
    pid: int, method: str, address: str, path: str, body: Any = None, *, timeout: float = 10
) -> tuple[int, str]:
    """Return status and text of one answer from `host:port` in the network of a process.

    Raises:
        OSError: nobody answers.
    """
    host, _, port = address.partition(":")
    connection = NodeConnection(pid, host, int(port), timeout=timeout)
    try:
        content = None if body is None else json.dumps(body)
        connection.request(method, path, content, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()
