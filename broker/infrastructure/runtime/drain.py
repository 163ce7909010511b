"""Draining: an instance that refuses new logins and new sockets, and serves existing logins."""

from __future__ import annotations

from aiohttp import web

from broker.errors import Unavailable

SOCKET_IO_PATH = "/socket.io/"
"""The path of Engine.IO requests."""


class DrainGate:
    """Open until `close`; then it refuses new logins and new sockets."""

    def __init__(self) -> None:
        self._closed = False

    def close(self) -> None:
        """Refuse new logins and new sockets from now on."""
        self._closed = True

    @property
    def is_open(self) -> bool:
        return not self._closed

    def check_open(self) -> None:
        """Raise InstanceDraining once closed."""
        if self._closed:
            raise InstanceDraining

    def check_handshake(self, request: web.Request) -> None:
        """Raise InstanceDraining for an Engine.IO handshake (a request without `sid`) once closed.

        A load balancer then tries another instance, and so does a client that reconnects.
        """
        if self._closed and request.path.endswith(SOCKET_IO_PATH) and "sid" not in request.query:
            raise InstanceDraining


class InstanceDraining(Unavailable):
    description = "this instance is draining and accepts no new logins; retry on another instance"
