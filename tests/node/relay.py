"""Carries connections from a socket of the machine to an address inside the node's network."""

from __future__ import annotations

import socket
import threading


def serve(listener: socket.socket, target: tuple[str, int]) -> None:
    """Relay every connection that the listener gets; returns at once.

    A socket belongs to the network in which it was made: the listener came from outside, the others are made here.
    """
    threading.Thread(target=_accept, args=(listener, target), daemon=True).start()


def _accept(listener: socket.socket, target: tuple[str, int]) -> None:
    while True:
        outside, _ = listener.accept()
        try:
            inside = socket.create_connection(target)
        except OSError:
            # The API server is gone or not there yet: the client sees a closed connection, as from a dead server.
            outside.close()
            continue
        for source, sink in ((outside, inside), (inside, outside)):
            threading.Thread(target=_copy, args=(source, sink), daemon=True).start()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        source.close()
    try:
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        sink.close()
