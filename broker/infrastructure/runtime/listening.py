"""Listening sockets on several addresses, over IPv4 and IPv6, for one process or several."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from broker.errors import StartupError
from broker.infrastructure.urls import url_host

ANY_IPV4 = "0.0.0.0"  # noqa: S104  # only used if an operator sets it

REUSE_ADDRESS = os.name == "posix"
"""Whether to set SO_REUSEADDR, as asyncio does. On Windows, other programs could then bind the
same port."""

FREE_PORT_ATTEMPTS = 20
"""Attempts to find a port that is free on every address."""

NO_SUCH_FAMILY = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""Errors for an IPv6 address on a machine without IPv6."""


class ListenAddress(NamedTuple):
    """The addresses and port of one server.

    host: an address, or several, separated by commas.
    port: 0 for a free one.
    variable: the setting of the port.
    """

    name: str
    host: str
    port: int
    variable: str

    def hosts(self) -> list[str]:
        return self.host.split(",")


class SocketAddress(NamedTuple):
    """An address to bind.

    sockaddr: as getaddrinfo returns it.
    dual: whether an IPv6 socket accepts IPv4 connections as well.
    """

    family: int
    sockaddr: tuple[Any, ...]
    dual: bool = False

    def with_port(self, port: int) -> SocketAddress:
        return self._replace(sockaddr=(self.sockaddr[0], port, *self.sockaddr[2:]))


Bind = Callable[[SocketAddress], socket.socket]


def open_sockets(requested: ListenAddress, *, shared: bool = False) -> list[socket.socket]:
    """Return a listening socket for each address, all on one port.

    shared: whether other workers may bind the same addresses.
    Raises PortInUse.
    """

    def bind(address: SocketAddress) -> socket.socket:
        listener = _bind(address, reuse_address=REUSE_ADDRESS, reuse_port=shared)
        try:
            listener.listen()  # two processes that start at once can bind; only one can listen
        except OSError:
            listener.close()
            raise
        return listener

    return _bind_all(requested, bind)


@contextmanager
def reserve_port(requested: ListenAddress) -> Iterator[int]:
    """Reserve a port on every address for the workers, inside the ``with`` block.

    The sockets never listen, because connections would wait in them forever.
    Raises PortInUse, also if another program would share the port.
    """
    with ExitStack() as stack:
        sockets = [stack.enter_context(bound) for bound in _bind_all(requested, _bind_alone)]
        for bound in sockets:
            # After the bind, which would share the port with another program otherwise.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        yield sockets[0].getsockname()[1]


def url_of(address: Sequence[object]) -> str:
    """Return the URL of a socket's address."""
    host, port = address[0], address[1]
    return f"http://{url_host(str(host))}:{port}"


def _bind_all(requested: ListenAddress, bind: Bind) -> list[socket.socket]:
    for attempt in range(FREE_PORT_ATTEMPTS):
        try:
            return _bind_once(requested, bind)
        except _CannotBind as error:
            can_retry = not requested.port and error.cause.errno == errno.EADDRINUSE
            if not can_retry or attempt == FREE_PORT_ATTEMPTS - 1:
                raise PortInUse(_reason(error, requested)) from None
    raise AssertionError("unreachable")


class _CannotBind(Exception):
    def __init__(self, host: str, cause: OSError) -> None:
        super().__init__()
        self.host = host
        self.cause = cause


def _bind_once(requested: ListenAddress, bind: Bind) -> list[socket.socket]:
    with ExitStack() as stack:
        bound: list[socket.socket] = []
        for host in requested.hosts():
            port = bound[0].getsockname()[1] if bound else requested.port
            for listener in _bind_host(host, port, requested, bind):
                bound.append(stack.enter_context(listener))
        stack.pop_all()
        return bound


def _bind_host(
    host: str, port: int, requested: ListenAddress, bind: Bind
) -> Iterator[socket.socket]:
    try:
        addresses = _addresses(host, port, requested.hosts())
        for number, address in enumerate(addresses, 1):
            try:
                bound = bind(address.with_port(port))
            except OSError as error:
                # `localhost` has an IPv6 address even on a machine without IPv6.
                if error.errno not in NO_SUCH_FAMILY or number == len(addresses):
                    raise
            else:
                port = bound.getsockname()[1]
                yield bound
    except OSError as error:
        raise _CannotBind(host, error) from None


def _addresses(host: str, port: int, hosts: Sequence[str]) -> list[SocketAddress]:
    flags = socket.AI_PASSIVE
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    if host != "::" or ANY_IPV4 in hosts:
        # Without duplicates: a hosts file may contain an address twice.
        return list(dict.fromkeys(SocketAddress(row[0], row[4]) for row in found))
    if socket.has_dualstack_ipv6():
        return [SocketAddress(socket.AF_INET6, found[0][4], dual=True)]
    return [
        SocketAddress(socket.AF_INET6, found[0][4]),
        SocketAddress(socket.AF_INET, (ANY_IPV4, port)),
    ]


def _bind(address: SocketAddress, *, reuse_address: bool, reuse_port: bool) -> socket.socket:
    bound = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse_address)
        if reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if address.family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not address.dual)
        bound.bind(address.sockaddr)
    except OSError:
        bound.close()
        raise
    return bound


def _bind_alone(address: SocketAddress) -> socket.socket:
    """Bind without SO_REUSEADDR if possible.

    With it, another socket that does not listen yet could have the same port. Without it,
    recently closed connections block the port.
    """
    try:
        return _bind(address, reuse_address=False, reuse_port=False)
    except OSError:
        return _bind(address, reuse_address=True, reuse_port=False)


def _reason(failed: _CannotBind, requested: ListenAddress) -> str:
    error, host, port = failed.cause, failed.host, requested.port
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} on {host} is in use, so the {requested.name} cannot listen there: "
            f"choose another with {requested.variable}=…"
        )
    if error.errno in (errno.EACCES, *NO_SUCH_FAMILY) or isinstance(error, socket.gaierror):
        return f"the {requested.name} cannot listen on {host}:{port}: {error.strerror}"
    raise error


class PortInUse(StartupError):
    """The process cannot listen on the port."""
