"""A client for webhooks that receive many requests: it keeps connections open.

It sends POST requests over HTTP/1.1, one at a time on each connection. A request costs a
fraction of one with aiohttp's client. `SiteClient` is the client for rare requests.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from functools import cache, lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

from broker.infrastructure.outbound.http import HTTPResponse, ResponseTooLarge
from broker.infrastructure.outbound.http_response import MalformedResponse
from broker.infrastructure.outbound.keep_alive_connection import (
    ConnectionLost,
    KeepAliveConnection,
)
from broker.infrastructure.outbound.ssrf import (
    AddressInfo,
    AddressNotAllowed,
    create_public_socket,
)
from broker.infrastructure.outbound.webhook import SignedRequest, WebhookFailed
from broker.infrastructure.urls import url_host

IDLE_TIMEOUT = 15.0
"""Seconds for which a connection without a request stays open."""

TICK = 0.25
"""Seconds between two looks at all connections. One timer for all costs less than one for each
request."""

IDLE_MAX = 256
"""Connections without a request, to all servers. Further ones are closed after their request."""

CONNECT_TIMEOUT = 1.0
"""Seconds for a connection to one address of a server that has several."""

REQUEST_TARGET = re.compile(r"[!-~]+")
"""Visible ASCII characters; others are percent-encoded in a URL."""

Resolve = Callable[[str, int], Awaitable[Sequence[AddressInfo]]]
"""Returns the addresses of a host and port. Raises OSError."""


class Server(NamedTuple):
    """A server to connect to."""

    host: str
    port: int
    is_secure: bool


class RequestLine(NamedTuple):
    """A URL's server, and the first lines of a request to it."""

    server: Server
    head: bytes


@lru_cache(maxsize=1024)
def request_line(url: str) -> RequestLine:
    """Raises ValueError if requests cannot be sent to the URL."""
    parts = urlsplit(url)
    is_secure = parts.scheme == "https"
    host = (parts.hostname or "").encode("idna").decode() if parts.hostname else ""
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if parts.scheme not in ("http", "https") or not host or parts.username is not None:
        raise ValueError("not an http or https URL without user and password")
    if not REQUEST_TARGET.fullmatch(target + host):
        raise ValueError("percent-encode all characters that are not ASCII")
    authority = url_host(host)
    if parts.port is not None:
        authority += f":{parts.port}"
    head = (
        f"POST {target} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: scan-login\r\n"
        "Accept-Encoding: identity\r\n"
    )
    port = (443 if is_secure else 80) if parts.port is None else parts.port
    return RequestLine(Server(host, port, is_secure), head.encode())


async def resolve_host(host: str, port: int) -> Sequence[AddressInfo]:
    """Return the addresses that the system's resolver knows."""
    loop = asyncio.get_running_loop()
    return await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)


@cache
def _system_tls() -> ssl.SSLContext:
    """Return the context of all clients. Loading the system's certificates takes 20 ms."""
    return ssl.create_default_context()


class KeepAliveClient:
    """Sends POST requests to URLs of sites.

    It connects to public addresses only, and follows no redirects. A request on a connection
    that the server has closed in the meantime is sent again on a new one, if no byte of a
    response has arrived. So the receiver must recognise a repeat by its `webhook-id`.

    allow_private_address: whether a URL may use http, and have an address that is not public.
    tls, resolve: used instead of the system's.
    """

    def __init__(
        self,
        *,
        allow_private_address: bool,
        tls: ssl.SSLContext | None = None,
        resolve: Resolve = resolve_host,
    ) -> None:
        self._allow_private_address = allow_private_address
        self._tls = tls
        self._resolve = resolve
        self._idle: dict[Server, list[KeepAliveConnection]] = {}
        self._idle_count = 0
        self._deadlines: dict[KeepAliveConnection, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        self._tls = self._tls or _system_tls()

    async def close(self) -> None:
        """Close the connections without a request. The callers have cancelled their requests."""
        if self._timer is not None:
            self._timer.cancel()
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()

    async def post(
        self, url: str, request: SignedRequest, *, max_bytes: int, seconds: float
    ) -> HTTPResponse:
        """Return the response, whatever its status.

        seconds: until the response is complete.
        Raises WebhookFailed or TimeoutError.
        """
        if not (self._allow_private_address or url.startswith("https://")):
            raise WebhookFailed("the URL does not use https")
        try:
            server, head = request_line(url)
            deadline = asyncio.get_running_loop().time() + seconds
            return await self._send(server, _encode(head, request), max_bytes, deadline)
        except TimeoutError:
            raise
        except ResponseTooLarge as error:
            raise WebhookFailed(f"response too large: {error}") from None
        except MalformedResponse as error:
            raise WebhookFailed(f"invalid response: {error}") from None
        except AddressNotAllowed as error:
            raise WebhookFailed(str(error)) from None
        except ConnectionLost as error:
            raise WebhookFailed(f"connection lost: {error}") from None
        except OSError as error:
            raise WebhookFailed(f"connection failed: {error}", retryable=True) from None
        except ValueError as error:
            raise WebhookFailed(f"invalid URL: {error}") from None

    async def _send(
        self, server: Server, message: bytes, max_bytes: int, deadline: float
    ) -> HTTPResponse:
        connection = self._take_idle(server)
        if connection is not None:
            try:
                return await self._exchange(connection, server, message, max_bytes, deadline)
            except ConnectionLost as lost:
                if lost.has_begun:
                    raise
        async with asyncio.timeout_at(deadline):
            connection = await self._connect(server)
        return await self._exchange(connection, server, message, max_bytes, deadline)

    async def _exchange(
        self,
        connection: KeepAliveConnection,
        server: Server,
        message: bytes,
        max_bytes: int,
        deadline: float,
    ) -> HTTPResponse:
        self._deadlines[connection] = deadline
        self._start_timer()
        try:
            response = await connection.exchange(message, max_bytes=max_bytes)
        finally:
            del self._deadlines[connection]
        if connection.is_reusable:
            self._keep(connection, server)
        return response

    async def _connect(self, server: Server) -> KeepAliveConnection:
        """Connect to the first address that answers. Raises OSError."""
        addresses = await self._resolve(server.host, server.port)
        for address in addresses[:-1]:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    return await self._connect_to(address, server)
            except (OSError, TimeoutError):
                continue
        return await self._connect_to(addresses[-1], server)

    async def _connect_to(self, address: AddressInfo, server: Server) -> KeepAliveConnection:
        loop = asyncio.get_running_loop()
        if self._allow_private_address:
            plain = socket.socket(*address[:3])
        else:
            plain = create_public_socket(address)
        plain.setblocking(False)
        try:
            await loop.sock_connect(plain, address[4])
            _, connection = await loop.create_connection(
                KeepAliveConnection,
                sock=plain,
                ssl=self._tls if server.is_secure else None,
                server_hostname=server.host if server.is_secure else None,
            )
        except BaseException:
            plain.close()
            raise
        return connection

    def _take_idle(self, server: Server) -> KeepAliveConnection | None:
        connections = self._idle.get(server, [])
        while connections:
            connection = connections.pop()
            self._idle_count -= 1
            if connection.is_reusable:
                return connection
        return None

    def _keep(self, connection: KeepAliveConnection, server: Server) -> None:
        if self._idle_count >= IDLE_MAX:
            connection.close()
            return
        self._idle.setdefault(server, []).append(connection)
        self._idle_count += 1
        self._start_timer()

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK, self._tick)

    def _tick(self) -> None:
        """End late requests, close connections that are idle for long, and drop lost ones."""
        now = asyncio.get_running_loop().time()
        self._timer = None
        for connection, deadline in self._deadlines.items():
            if deadline <= now:
                connection.fail(TimeoutError())
        idle, self._idle, self._idle_count = self._idle, {}, 0
        for server, connections in idle.items():
            for connection in connections:
                if connection.is_reusable and connection.idle_since > now - IDLE_TIMEOUT:
                    self._keep(connection, server)
                else:
                    connection.close()
        if self._deadlines:
            self._start_timer()


def _encode(head: bytes, request: SignedRequest) -> bytes:
    fields = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    return b"%sContent-Length: %d\r\n%s\r\n%s" % (
        head,
        len(request.body),
        fields.encode("latin-1"),
        request.body,
    )
