"""Draining: an instance that refuses new sockets."""

from __future__ import annotations

from broker.errors import Unavailable

SOCKET_IO_PATH = "/socket.io/"
"""Where sockets are opened."""


class InstanceDraining(Unavailable):
    description = (
        "this instance is draining and begins nothing more; ask again, and another answers"
    )
