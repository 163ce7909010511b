"""The result of a feature's `mount`: what it adds to the broker."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from broker.infrastructure.api.endpoint import Route
from broker.infrastructure.api.event import BoundEvent, EventNamespace
from broker.infrastructure.api.responses import Handler
from broker.infrastructure.background import BackgroundTask
from broker.infrastructure.notices import NoticeHandler
from broker.infrastructure.transport.websocket.acceptor import UpgradeHandler

ReadinessCheck = Callable[[], str | None]
"""Returns why this instance should get no browsers now; None if it should."""


class Resource(NamedTuple):
    """A part that is opened before the broker serves, and closed after it."""

    open: Callable[[], Awaitable[None]]
    close: Callable[[], Awaitable[None]]


class SocketRoute(NamedTuple):
    """The WebSockets of one feature. The OpenAPI document does not describe them.

    paths: of handshakes; they may have parameters, such as `/tunnel/{ticket}`.
    accept: takes over complete handshakes of these paths.
    handle: handles all other requests of these paths.
    """

    paths: Sequence[str]
    accept: UpgradeHandler
    handle: Handler


class TokenGrant(NamedTuple):
    """A way to get tokens at the token endpoint (RFC 6749, section 4).

    grant_type: the value of the form's field.
    exchange: takes the authenticated app and the form, and returns the JSON response.
    """

    grant_type: str
    exchange: Callable[[Any, Mapping[str, object]], Awaitable[Mapping[str, object]]]


class Mounted(NamedTuple):
    """routes: at the public port.  admin_routes: at the admin port.

    events: of Socket.IO; those of one namespace may come from several features.
    namespaces: of Socket.IO.
    tasks: run while the broker serves.
    readiness: checks that return why this instance should get no browsers, None if it should.
    resources: are opened after the backends and closed before them.
    socket_routes: paths of WebSockets.
    close_sockets: close the sockets of these when the public port stops.
    close_streams: end the responses without end of the admin port when that port stops.
    grants: of the token endpoint, which the composition root mounts.
    notices: handlers of the bus's notices, which the composition root receives.
    """

    routes: Sequence[Route] = ()
    admin_routes: Sequence[Route] = ()
    events: Sequence[BoundEvent] = ()
    namespaces: Sequence[EventNamespace[Any]] = ()
    tasks: Sequence[BackgroundTask] = ()
    readiness: Sequence[ReadinessCheck] = ()
    resources: Sequence[Resource] = ()
    grants: Sequence[TokenGrant] = ()
    notices: Sequence[NoticeHandler] = ()
    socket_routes: Sequence[SocketRoute] = ()
    close_sockets: Sequence[Callable[[], Awaitable[None]]] = ()
    close_streams: Sequence[Callable[[], Awaitable[None]]] = ()

    @classmethod
    def join(cls, parts: Sequence[Mounted]) -> Mounted:
        return cls(*(tuple(chain.from_iterable(values)) for values in zip(*parts, strict=True)))
