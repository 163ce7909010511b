"""Creates the services of tunnels, which the wires of all APIs share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from broker.infrastructure.clock import Clock
from broker.infrastructure.coordination import Bus
from broker.infrastructure.observability.feed import Feed
from broker.sessions.service import SessionService
from broker.tunnels.attaching import TunnelAttacher
from broker.tunnels.closing import TunnelCloser
from broker.tunnels.hub import TunnelHub
from broker.tunnels.inbox import TunnelInboxes
from broker.tunnels.limits import AppTunnelLimit
from broker.tunnels.losses import LostSockets
from broker.tunnels.news import NewsSender
from broker.tunnels.ports import TunnelCallbacks, TunnelStores
from broker.tunnels.service import TunnelService
from broker.tunnels.session_limit import SessionTunnelLimit


class TunnelServices(NamedTuple):
    """attachers: by the `api` of their tunnels."""

    service: TunnelService
    closer: TunnelCloser
    losses: LostSockets
    hub: TunnelHub
    inboxes: TunnelInboxes
    attachers: Mapping[str, TunnelAttacher]


class TunnelDependencies(NamedTuple):
    """Stores, services of other features and settings from which the services are made.

    callbacks: by the `api` of a tunnel.
    instance: the name of this process on the bus.
    tunnel_max: tunnels of one app.
    away_timeout: seconds without a socket after which a tunnel ends.
    """

    stores: TunnelStores
    callbacks: Mapping[str, TunnelCallbacks]
    session_service: SessionService
    bus: Bus
    clock: Clock
    instance: str
    tunnel_max: int
    away_timeout: float
    feed: Feed


class _Parts(NamedTuple):
    news: NewsSender
    closer: TunnelCloser
    losses: LostSockets
    app_limit: AppTunnelLimit
    session_limit: SessionTunnelLimit


def create_tunnel_services(needs: TunnelDependencies) -> TunnelServices:
    parts = _parts(needs)
    return TunnelServices(
        service=_service(needs, parts),
        closer=parts.closer,
        losses=parts.losses,
        hub=TunnelHub(
            streams=needs.stores.streams,
            closer=parts.closer,
            instance=needs.instance,
            feed=needs.feed,
        ),
        inboxes=TunnelInboxes(stores=needs.stores, callbacks=needs.callbacks, closer=parts.closer),
        attachers={api: _attacher(api, needs, parts) for api in needs.callbacks},
    )


def _parts(needs: TunnelDependencies) -> _Parts:
    stores, clock = needs.stores, needs.clock
    news = NewsSender(needs.bus)
    closer = TunnelCloser(stores=stores, callbacks=needs.callbacks, news=news)
    return _Parts(
        news=news,
        closer=closer,
        losses=LostSockets(records=stores.records, clock=clock, away_timeout=needs.away_timeout),
        app_limit=AppTunnelLimit(index=stores.index, limit=needs.tunnel_max, clock=clock),
        session_limit=SessionTunnelLimit(index=stores.index, closer=closer),
    )


def _service(needs: TunnelDependencies, parts: _Parts) -> TunnelService:
    return TunnelService(
        stores=needs.stores,
        session_service=needs.session_service,
        closer=parts.closer,
        news=parts.news,
        app_limit=parts.app_limit,
        session_limit=parts.session_limit,
        clock=needs.clock,
    )


def _attacher(api: str, needs: TunnelDependencies, parts: _Parts) -> TunnelAttacher:
    return TunnelAttacher(
        api=api,
        stores=needs.stores,
        callbacks=needs.callbacks,
        closer=parts.closer,
        losses=parts.losses,
        session_service=needs.session_service,
        app_limit=parts.app_limit,
        session_limit=parts.session_limit,
        news=parts.news,
        clock=needs.clock,
        instance=needs.instance,
    )
