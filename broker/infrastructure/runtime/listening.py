"""Sockets that listen: on several addresses, over IPv4 and IPv6, for one process or several."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from broker.errors import StartupError

ANY_IPV4 = "0.0.0.0"  # noqa: S104  # an operator asks for it

REUSE_ADDRESS = os.name == "posix"
"""As asyncio does: on Windows it would share the port with any other program."""

FREE_PORT_ATTEMPTS = 20
"""Attempts to find a port that is free on every address."""

NO_SUCH_FAMILY = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""Errors for an IPv6 address on a machine without IPv6."""


class ListenPlace(NamedTuple):
    """The addresses and port of one server.

    host: an address, or several, separated by commas.  port: 0 takes a free one.
    variable: the setting of the port.
    """

    name: str
    host: str
    port: int
    variable: str

    def hosts(self) -> list[str]:
        return self.host.split(",")


class SocketAddress(NamedTuple):
    """where: as getaddrinfo has it.  dual: whether IPv6 takes IPv4 connections as well."""

    family: int
    where: tuple[Any, ...]
    dual: bool = False

    def at(self, port: int) -> SocketAddress:
        return self._replace(where=(self.where[0], port, *self.where[2:]))


Bind = Callable[[SocketAddress], socket.socket]


def open_sockets(place: ListenPlace, *, shared: bool = False) -> list[socket.socket]:
    """A listening socket for each address, all on one port.

    shared: other processes of ours may bind the same addresses.
    Raises PortInUse.
    """

    def bind(address: SocketAddress) -> socket.socket:
        listener = _bind(address, reuse_address=REUSE_ADDRESS, reuse_port=shared)
        try:
            listener.listen()  # two that start at once can both bind; one of them can listen
        except OSError:
            listener.close()
            raise
        return listener

    return _bind_all(place, bind)


@contextmanager
def reserved(place: ListenPlace) -> Iterator[int]:
    """Hold a port on every address for processes of ours, inside the ``with`` block.

    The sockets never listen, because connections would wait in them forever.
    Raises PortInUse, also if another program would share the port.
    """
    with ExitStack() as stack:
        holders = [stack.enter_context(one) for one in _bind_all(place, _bind_alone)]
        for holder in holders:
            # Only now: with it the port could be shared with another program.
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        yield holders[0].getsockname()[1]


def url_of(address: Sequence[object]) -> str:
    """The URL of a socket's address."""
    host, port = address[0], address[1]
    return f"http://[{host}]:{port}" if ":" in str(host) else f"http://{host}:{port}"


def _bind_all(place: ListenPlace, bind: Bind) -> list[socket.socket]:
    for attempt in range(FREE_PORT_ATTEMPTS):
        try:
            return _bind_once(place, bind)
        except _CannotBind as refused:
            another = not place.port and refused.cause.errno == errno.EADDRINUSE
            if not another or attempt == FREE_PORT_ATTEMPTS - 1:
                raise PortInUse(_reason(refused, place)) from None
    raise AssertionError("unreachable")


class _CannotBind(Exception):
    def __init__(self, host: str, cause: OSError) -> None:
        super().__init__()
        self.host = host
        self.cause = cause


def _bind_once(place: ListenPlace, bind: Bind) -> list[socket.socket]:
    with ExitStack() as stack:
        bound: list[socket.socket] = []
        for host in place.hosts():
            port = bound[0].getsockname()[1] if bound else place.port
            for one in _bind_host(host, port, place, bind):
                bound.append(stack.enter_context(one))
        stack.pop_all()
        return bound


def _bind_host(host: str, port: int, place: ListenPlace, bind: Bind) -> Iterator[socket.socket]:
    try:
        addresses = _addresses(host, port, place.hosts())
        for number, address in enumerate(addresses, 1):
            try:
                bound = bind(address.at(port))
            except OSError as error:
                # Of `localhost`: a machine without IPv6 still has IPv4.
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
        # Once each: a hosts file may name an address twice.
        return list(dict.fromkeys(SocketAddress(family, where) for family, _, _, _, where in found))
    if socket.has_dualstack_ipv6():
        return [SocketAddress(socket.AF_INET6, found[0][4], dual=True)]
    return [
        SocketAddress(socket.AF_INET6, found[0][4]),
        SocketAddress(socket.AF_INET, (ANY_IPV4, port)),
    ]


def _bind(address: SocketAddress, *, reuse_address: bool, reuse_port: bool) -> socket.socket:
    holder = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse_address)
        if reuse_port:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if address.family == socket.AF_INET6:
            holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not address.dual)
        holder.bind(address.where)
    except OSError:
        holder.close()
        raise
    return holder


def _bind_alone(address: SocketAddress) -> socket.socket:
    """Try both: recently closed connections block the port for a socket without SO_REUSEADDR,
    and a socket with it can be bound beside another such socket that does not listen yet."""
    try:
        return _bind(address, reuse_address=False, reuse_port=False)
    except OSError:
        return _bind(address, reuse_address=True, reuse_port=False)


def _reason(refused: _CannotBind, place: ListenPlace) -> str:
    error, host, port = refused.cause, refused.host, place.port
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} on {host} is taken, so the {place.name} cannot listen there: "
            f"choose another with {place.variable}=…"
        )
    if error.errno in (errno.EACCES, *NO_SUCH_FAMILY) or isinstance(error, socket.gaierror):
        return f"the {place.name} cannot listen on {host}:{port}: {error.strerror}"
    raise error


class PortInUse(StartupError):
    """The port cannot be listened on."""
