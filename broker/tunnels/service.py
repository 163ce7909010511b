"""Tunnels for backends: creates them, pushes messages, reads, changes and ends them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from broker.apps.model import App
from broker.errors import InvalidRequest, Unavailable
from broker.infrastructure.clock import Clock
from broker.sessions.model import Session, SessionToken, person_key
from broker.sessions.service import SessionService
from broker.tunnels.closing import TunnelCloser
from broker.tunnels.errors import UnknownTunnel
from broker.tunnels.limits import AppTunnelLimit
from broker.tunnels.model import (
    NATIVE,
    ClosedBy,
    CloseRequest,
    Tunnel,
    new_ticket,
    new_tunnel_id,
    secret_hash,
)
from broker.tunnels.news import NewsSender
from broker.tunnels.ports import (
    AppendedMessage,
    Push,
    TunnelPage,
    TunnelQuery,
    TunnelStores,
)
from broker.tunnels.rules import edit
from broker.tunnels.session_limit import SessionTunnelLimit

ATTEMPTS_MAX = 5
"""Attempts of a change while other instances attach the tunnel."""

LAST_OFFSET = 2**53
"""A position after all messages."""


class NewTunnel(NamedTuple):
    """A tunnel to create.

    session: of the person, as the client sent it; None for none.
    subject: empty for the session's subject, if there is one.
    meta: a JSON object as text.
    expires_in: seconds until the ticket expires.
    """

    session: SessionToken | None = None
    subject: str = ""
    meta: str = "{}"
    expires_in: int = 60
    api: str = NATIVE
    callback_url: str = ""


class CreatedTunnel(NamedTuple):
    """ticket: valid once, 43 characters."""

    tunnel_id: str
    ticket: str


class TunnelDetails(NamedTuple):
    """offset: of the last message that was pushed; 0 for none."""

    tunnel: Tunnel
    offset: int


class TunnelService:
    """The calls of backends. Each method raises Unavailable.

    A tunnel of another app, or of another API, is an unknown tunnel.
    """

    def __init__(
        self,
        *,
        stores: TunnelStores,
        session_service: SessionService,
        closer: TunnelCloser,
        news: NewsSender,
        app_limit: AppTunnelLimit,
        session_limit: SessionTunnelLimit,
        clock: Clock,
    ) -> None:
        self._stores = stores
        self._session_service = session_service
        self._closer = closer
        self._news = news
        self._app_limit = app_limit
        self._session_limit = session_limit
        self._clock = clock

    async def create(self, app: App, new: NewTunnel) -> CreatedTunnel:
        """Create a tunnel that waits for the use of its ticket.

        Raises InvalidSession, TooManyTunnels, or InvalidRequest if the app has no URL for
        callbacks.
        """
        if new.api == NATIVE and not app.tunnel_url:
            raise InvalidRequest("the app has no tunnel_url, which receives the callbacks")
        await self._app_limit.check(app.key)
        tunnel = Tunnel(
            id=new_tunnel_id(),
            app=app.id,
            incarnation=app.incarnation,
            api=new.api,
            callback_url=new.callback_url,
            subject=new.subject,
            meta=new.meta,
        )
        if new.session is not None:
            session = await self._session_service.check(new.session, app)
            tunnel = await self._with_session(tunnel, session)
            await self._session_limit.check(tunnel)
        ticket = new_ticket(tunnel.id)
        expires_at = self._clock() + new.expires_in
        await self._stores.tickets.put(secret_hash(ticket), tunnel, expires_at)
        return CreatedTunnel(tunnel.id, ticket)

    async def push(
        self, app: App, pushes: Sequence[Push], api: str = NATIVE
    ) -> Sequence[AppendedMessage | None]:
        """Store messages and notify the instances of their tunnels; None for an unknown one."""
        results = await self._stores.streams.append(app.key, api, pushes)
        notified = {
            push.tunnel_id: result.notify
            for push, result in zip(pushes, results, strict=True)
            if result is not None and result.notify
        }
        for tunnel_id, instance in notified.items():
            await self._news.send(instance, tunnel_id)
        return results

    async def resolve(
        self, app: App, *, subjects: Sequence[str], groups: Sequence[str], limit: int
    ) -> Mapping[TunnelQuery, Sequence[str]]:
        """Return the tunnels of subjects and groups, by query; at most `limit` + 1 of each."""
        queries = [TunnelQuery(app.key, subject=subject) for subject in subjects]
        queries += [TunnelQuery(app.key, group=group) for group in groups]
        return {query: await self._ids(query, limit) for query in queries}

    async def get(self, app: App, tunnel_id: str, api: str = NATIVE) -> TunnelDetails:
        """Raises UnknownTunnel."""
        tunnel = await self._require(app, tunnel_id, api)
        readings = await self._stores.streams.read({tunnel_id: LAST_OFFSET}, "")
        return TunnelDetails(tunnel, readings[tunnel_id].last)

    async def find(
        self, app: App, *, subject: str = "", group: str = "", after: str = ""
    ) -> TunnelPage:
        """Return a page of tunnels by their ids."""
        query = TunnelQuery(app.key, subject=subject, group=group)
        return await self._stores.index.find(query, after=after)

    async def change(
        self,
        app: App,
        tunnel_id: str,
        *,
        meta: str | None = None,
        groups: tuple[str, ...] | None = None,
    ) -> TunnelDetails:
        """Replace fields; None leaves one as it is. Raises UnknownTunnel."""
        for _ in range(ATTEMPTS_MAX):
            tunnel = await self._require(app, tunnel_id, NATIVE)
            after = edit(
                tunnel,
                meta=tunnel.meta if meta is None else meta,
                groups=tunnel.groups if groups is None else groups,
            )
            if await self._stores.records.change(after, attachment=tunnel.attachment):
                return await self.get(app, tunnel_id)
        raise Unavailable("the tunnel is being attached; try again")

    async def end(self, app: App, tunnel_id: str, why: CloseRequest, api: str = NATIVE) -> None:
        """End a tunnel. Its messages that were pushed before are delivered first.

        Raises UnknownTunnel.
        """
        for _ in range(ATTEMPTS_MAX):
            tunnel = await self._require(app, tunnel_id, api)
            if await self._closer.end(tunnel, why, ClosedBy.SERVER) is not None:
                return
        raise Unavailable("the tunnel is being attached; try again")

    async def _with_session(self, tunnel: Tunnel, session: Session) -> Tunnel:
        subject = tunnel.subject or await self._session_service.subject(session) or ""
        return replace(
            tunnel,
            subject=subject,
            openid=session.phone.identity.id,
            session=session.id,
            person=person_key(session.phone),
        )

    async def _ids(self, query: TunnelQuery, limit: int) -> Sequence[str]:
        ids: list[str] = []
        page = await self._stores.index.find(query)
        ids += [tunnel.id for tunnel in page.tunnels]
        while page.next and len(ids) <= limit:
            page = await self._stores.index.find(query, after=page.next)
            ids += [tunnel.id for tunnel in page.tunnels]
        return ids

    async def _require(self, app: App, tunnel_id: str, api: str) -> Tunnel:
        tunnel = await self._stores.records.get(tunnel_id)
        if tunnel is None or (tunnel.owner, tunnel.api) != (app.key, api):
            raise UnknownTunnel
        return tunnel
