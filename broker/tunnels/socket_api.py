"""The WebSocket of tunnels: `/tunnel/<ticket>`, and `/tunnel` for a client that resumes.

Each handshake is accepted, because a page cannot read the HTTP status of a refused one. The
close code is the reason why there is no tunnel. The Origin is not checked: the ticket is the
authority.
"""

from __future__ import annotations

import asyncio
from typing import Protocol
from urllib.parse import urlsplit

from aiohttp import web

from broker.errors import InvalidRequest
from broker.infrastructure.api.client_address import ClientAddresses
from broker.infrastructure.api.mounted import SocketRoute
from broker.infrastructure.transport.websocket.acceptor import UpgradeRequest
from broker.infrastructure.transport.websocket.handshake import (
    DetachedResponse,
    HTTPRequest,
    detach,
    is_websocket_handshake,
)
from broker.tunnels.model import SocketPeer

PATH = "/tunnel"


def socket_url(public_url: str, path: str = PATH) -> str:
    """Return the URL that a ticket follows: wss for a broker with https, ws for http."""
    return f"ws{public_url.removeprefix('http')}{path}"


class SocketStarter(Protocol):
    """Starts the sockets of one API."""

    def accept(
        self,
        request: HTTPRequest,
        transport: asyncio.Transport,
        early_data: bytes,
        *,
        ticket: str,
        client: SocketPeer,
    ) -> None:
        """Answer a valid handshake.  ticket: empty for a client that sends none."""


class TunnelSocketAPI:
    """Starts the sockets of tunnels.

    public_url: of the broker. Its path may precede `path`, or a proxy has removed it.
    path: of the sockets. Tickets follow it.
    """

    def __init__(
        self,
        *,
        sockets: SocketStarter,
        addresses: ClientAddresses,
        public_url: str,
        path: str = PATH,
    ) -> None:
        self._sockets = sockets
        self._addresses = addresses
        self._paths = tuple(prefix + path for prefix in {"", urlsplit(public_url).path})

    def accept_upgrade(self, request: UpgradeRequest) -> bool:
        """Start a socket. This is an `UpgradeHandler`."""
        ticket = self._ticket_of(request.path)
        if ticket is None or not is_websocket_handshake(request):
            return False
        self._sockets.accept(
            request,
            request.transport,
            request.early_data,
            ticket=ticket,
            client=self._client(request),
        )
        return True

    async def open(self, http: web.Request) -> web.StreamResponse:
        """Start a socket whose handshake has arrived in pieces, or refuse another request."""
        transport = http.transport
        if transport is None or not is_websocket_handshake(http):
            raise InvalidRequest("this is a WebSocket: send an upgrade request")
        ticket, client = http.match_info.get("ticket", ""), self._client(http)
        early_data = detach(http.protocol)
        self._sockets.accept(http, transport, early_data, ticket=ticket, client=client)
        return DetachedResponse()

    def route(self) -> SocketRoute:
        paths = [path + end for path in self._paths for end in ("", "/{ticket}")]
        return SocketRoute(paths, self.accept_upgrade, self.open)

    def _ticket_of(self, path: str) -> str | None:
        """Return the ticket, which may be empty; None for another path."""
        for own in self._paths:
            if path == own:
                return ""
            if path.startswith(f"{own}/") and "/" not in path[len(own) + 1 :]:
                return path[len(own) + 1 :]
        return None

    def _client(self, request: web.Request | UpgradeRequest) -> SocketPeer:
        caller = self._addresses.caller(request)
        return SocketPeer(caller.ip, caller.user_agent)
