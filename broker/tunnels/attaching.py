"""Attaches sockets to tunnels: a new one with a ticket, a further one with the resume secret.

record ──▶ tunnel.open ──▶ socket registered
   │            └─ refused, failed ──▶ record removed, or away again
   └─ the former socket has lost the tunnel
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple, TypeGuard

import structlog

from broker.errors import RateLimited, Unavailable
from broker.infrastructure.clock import Clock
from broker.sessions.service import SessionService
from broker.tunnels.closing import TunnelCloser
from broker.tunnels.hub import TunnelLosses
from broker.tunnels.limits import AppTunnelLimit
from broker.tunnels.metrics import REPLAYED
from broker.tunnels.model import (
    ACCESS_DENIED,
    INVALID_GRANT,
    RATE_LIMITED,
    REPLACED,
    SESSION_ENDED,
    UNAVAILABLE,
    AcceptedOpening,
    ClosedBy,
    CloseRequest,
    Opening,
    SocketPeer,
    Tunnel,
    is_ticket,
    new_epoch,
    secret_hash,
)
from broker.tunnels.news import NewsSender
from broker.tunnels.ports import (
    CallbackFailed,
    OpeningRefused,
    StreamReading,
    TunnelCallbacks,
    TunnelStores,
)
from broker.tunnels.rules import accept, attach, edit
from broker.tunnels.session_limit import SessionTunnelLimit

log = structlog.get_logger()

ATTEMPTS_MAX = 5
"""Attempts to attach while other instances change the tunnel."""


class Refused(Exception):
    """The socket gets no tunnel.  why: the close that the client gets."""

    def __init__(self, why: CloseRequest) -> None:
        super().__init__(why.reason)
        self.why = why


class Attached(NamedTuple):
    """A tunnel and its new socket.

    resume: the secret with which the client resumes.
    position: the offset after which messages follow.
    recovered: whether the client has missed none of them.
    """

    tunnel: Tunnel
    resume: str
    position: int
    recovered: bool


class ResumeRequest(NamedTuple):
    """The fields of a resume frame.  offset: of the last message that it has received."""

    tunnel_id: str
    resume: str
    epoch: str
    offset: int


class TunnelAttacher:
    """Attaches sockets of one API.

    callbacks: of the API.
    instance: the name of this process on the bus.
    """

    def __init__(
        self,
        *,
        api: str,
        stores: TunnelStores,
        callbacks: Mapping[str, TunnelCallbacks],
        closer: TunnelCloser,
        losses: TunnelLosses,
        session_service: SessionService,
        app_limit: AppTunnelLimit,
        session_limit: SessionTunnelLimit,
        news: NewsSender,
        clock: Clock,
        instance: str,
    ) -> None:
        self._api = api
        self._stores = stores
        self._callbacks = callbacks[api]
        self._closer = closer
        self._losses = losses
        self._session_service = session_service
        self._app_limit = app_limit
        self._session_limit = session_limit
        self._news = news
        self._clock = clock
        self._instance = instance

    async def open(self, ticket: str, client: SocketPeer) -> Attached:
        """Open a new tunnel. Raises Refused, or Unavailable; the ticket may be used then."""
        tunnel, resume, seq = await self._claim(ticket, takes_seq=True)
        try:
            answer = await self._ask(tunnel, seq, Opening(*client, resumed=False))
            tunnel = await self._apply(tunnel, answer)
        except Refused:
            await self._closer.discard(tunnel)
            raise
        except (Unavailable, asyncio.CancelledError):
            self._losses.add(tunnel.id, tunnel.attachment, ClosedBy.NETWORK)
            raise
        log.info("tunnel opened", app=tunnel.app, tunnel_id=tunnel.id)
        return Attached(tunnel, resume, 0, recovered=True)

    async def attach(self, ticket: str) -> Attached:
        """Open a new tunnel without asking the backend. Raises as `open`."""
        tunnel, resume, _ = await self._claim(ticket, takes_seq=False)
        log.info("tunnel opened", app=tunnel.app, tunnel_id=tunnel.id)
        return Attached(tunnel, resume, 0, recovered=True)

    async def resume(self, request: ResumeRequest, client: SocketPeer) -> Attached:
        """Attach a further socket. The former one loses the tunnel. Raises Refused, Unavailable."""
        tunnel, seq = await self._take_over(request)
        try:
            answer = await self._ask(tunnel, seq, Opening(*client, resumed=True))
            return await self._replay(await self._apply(tunnel, answer), request)
        except Refused as refused:
            if refused.why is ACCESS_DENIED:
                await self._closer.end(tunnel, refused.why, ClosedBy.SERVER)
            else:
                self._losses.add(tunnel.id, tunnel.attachment, ClosedBy.NETWORK)
            raise
        except (Unavailable, asyncio.CancelledError):
            self._losses.add(tunnel.id, tunnel.attachment, ClosedBy.NETWORK)
            raise

    async def _claim(self, ticket: str, *, takes_seq: bool) -> tuple[Tunnel, str, int]:
        """Store the tunnel of a ticket. Returns it, its resume secret and its last `seq`."""
        if not is_ticket(ticket):
            raise Refused(INVALID_GRANT)
        pending = await self._stores.tickets.take(ticket[0], secret_hash(ticket))
        if pending is None or pending.api != self._api:
            raise Refused(INVALID_GRANT)
        await self._check_limits(pending)
        resume = secrets.token_urlsafe(32)
        named = replace(pending, resume_hash=secret_hash(resume), epoch=new_epoch())
        tunnel = self._attach(named, await self._session_end(pending))
        changed = await self._stores.records.change(tunnel, attachment=0, takes_seq=takes_seq)
        if changed is None:
            raise Refused(INVALID_GRANT)
        return tunnel, resume, changed.seq

    async def _ask(self, tunnel: Tunnel, seq: int, opening: Opening) -> AcceptedOpening:
        """Let the backend accept the socket. Raises Refused."""
        # The session may have ended before the record was stored. Its end has not found the record.
        await self._session_end(tunnel)
        try:
            return await self._callbacks.open(tunnel, seq, opening)
        except OpeningRefused:
            raise Refused(ACCESS_DENIED) from None
        except CallbackFailed:
            raise Refused(UNAVAILABLE) from None

    async def _take_over(self, request: ResumeRequest) -> tuple[Tunnel, int]:
        for _ in range(ATTEMPTS_MAX):
            before = await self._stores.records.get(request.tunnel_id)
            if not self._may_resume(before, request.resume):
                raise Refused(INVALID_GRANT)
            tunnel = self._attach(before, await self._session_end(before))
            try:
                changed = await self._stores.records.change(
                    tunnel, attachment=before.attachment, takes_seq=True
                )
            except Unavailable:  # the change may be stored
                self._losses.add(tunnel.id, tunnel.attachment, ClosedBy.NETWORK)
                raise
            if changed is not None:
                await self._news.send(changed.notify, tunnel.id)
                return tunnel, changed.seq
        raise Refused(UNAVAILABLE)

    def _may_resume(self, tunnel: Tunnel | None, resume: str) -> TypeGuard[Tunnel]:
        expected = tunnel.resume_hash if tunnel is not None else b""
        is_right = hmac.compare_digest(expected, secret_hash(resume))
        return tunnel is not None and is_right and tunnel.api == self._api

    def _attach(self, tunnel: Tunnel, session_end: float) -> Tunnel:
        return attach(tunnel, instance=self._instance, now=self._clock(), session_end=session_end)

    async def _check_limits(self, tunnel: Tunnel) -> None:
        try:
            await self._app_limit.check(tunnel.owner)
            await self._session_limit.make_room(tunnel)
        except RateLimited:
            raise Refused(RATE_LIMITED) from None

    async def _session_end(self, tunnel: Tunnel) -> float:
        """Return when the tunnel's session ends; 0 if it has none. Raises Refused if it ended."""
        if not tunnel.session:
            return 0.0
        session = await self._session_service.find(tunnel.session)
        if session is None:
            raise Refused(SESSION_ENDED)
        return session.expires_at

    async def _apply(self, tunnel: Tunnel, answer: AcceptedOpening) -> Tunnel:
        """Store what the backend has answered. Raises Refused if the tunnel has another socket."""
        if answer == AcceptedOpening():
            return tunnel
        return await self._edit(tunnel, lambda before: accept(before, answer))

    async def _edit(self, tunnel: Tunnel, change: Callable[[Tunnel], Tunnel]) -> Tunnel:
        """Store a change and return it. Raises Refused if the tunnel has another socket."""
        while True:
            after = change(tunnel)
            if await self._stores.records.change(after, attachment=tunnel.attachment):
                return after
            current = await self._stores.records.get(tunnel.id)
            if current is None or current.attachment != tunnel.attachment:
                raise Refused(REPLACED)
            tunnel = current

    async def _replay(self, tunnel: Tunnel, request: ResumeRequest) -> Attached:
        reading = await self._read(tunnel.id, request.offset)
        if request.epoch == tunnel.epoch and request.offset <= reading.last:
            if reading.is_complete:
                REPLAYED.labels(tunnel.app).inc(reading.last - request.offset)
                return Attached(tunnel, request.resume, request.offset, True)
        else:  # offsets were lost, or are of another epoch
            reading = await self._read(tunnel.id, 0)
            epoch = new_epoch()
            tunnel = await self._edit(tunnel, lambda before: edit(before, epoch=epoch))
        first = reading.messages[0].offset if reading.messages else reading.last + 1
        return Attached(tunnel, request.resume, first - 1, False)

    async def _read(self, tunnel_id: str, position: int) -> StreamReading:
        readings = await self._stores.streams.read({tunnel_id: position}, self._instance)
        return readings[tunnel_id]
