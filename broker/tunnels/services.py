"""Creates the services of tunnels, which the wires of all APIs share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from broker.infrastructure.clock import Clock
from broker.infrastructure.coordination import Bus
from broker.infrastructure.observability.feed import NO_FEED, Feed
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


def create_tunnel_services(
    *,
    stores: TunnelStores,
    callbacks: Mapping[str, TunnelCallbacks],
    session_service: SessionService,
    bus: Bus,
    clock: Clock,
    instance: str,
    tunnel_max: int,
    away_timeout: float,
    feed: Feed = NO_FEED,
) -> TunnelServices:
    """Create the services: a flat list, in the order of dependence.

    callbacks: by the `api` of a tunnel.
    instance: the name of this process on the bus.
    tunnel_max: tunnels of one app.
    away_timeout: seconds without a socket after which a tunnel ends.
    """
    news = NewsSender(bus)
    closer = TunnelCloser(stores=stores, callbacks=callbacks, news=news)
    losses = LostSockets(records=stores.records, clock=clock, away_timeout=away_timeout)
    app_limit = AppTunnelLimit(index=stores.index, limit=tunnel_max, clock=clock)
    session_limit = SessionTunnelLimit(index=stores.index, closer=closer)
    attachers = {
        api: TunnelAttacher(
            api=api,
            stores=stores,
            callbacks=callbacks,
            closer=closer,
            losses=losses,
            session_service=session_service,
            app_limit=app_limit,
            session_limit=session_limit,
            news=news,
            clock=clock,
            instance=instance,
        )
        for api in callbacks
    }
    service = TunnelService(
        stores=stores,
        session_service=session_service,
        closer=closer,
        news=news,
        app_limit=app_limit,
        session_limit=session_limit,
        clock=clock,
    )
    return TunnelServices(
        service=service,
        closer=closer,
        losses=losses,
        hub=TunnelHub(streams=stores.streams, closer=closer, instance=instance, feed=feed),
        inboxes=TunnelInboxes(stores=stores, callbacks=callbacks, closer=closer),
        attachers=attachers,
    )
