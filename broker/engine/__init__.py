"""The transport under python-socketio.

`Server` is python-socketio's, over the transport in use; `Refused` is what a
CONNECT handler raises to turn a socket away with an error body.
"""

from __future__ import annotations

from collections.abc import Mapping

from socketio.exceptions import ConnectionRefusedError as _ConnectionRefused

from broker.engine.stock import Server

__all__ = ["Refused", "Server"]


class Refused(_ConnectionRefused):  # type: ignore[misc]  # python-socketio has no types
    """The client sees `connect_error` with the description as message and `body` as data."""

    def __init__(self, body: Mapping[str, str | int]) -> None:
        super().__init__(body["error_description"], dict(body))
