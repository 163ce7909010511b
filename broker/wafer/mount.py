"""Mounts Wafer's session calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from broker.apps.ports import Apps
from broker.infrastructure.api.client_address import ClientAddresses
from broker.infrastructure.api.endpoint import Route, bind_endpoints
from broker.infrastructure.api.mounted import Mounted
from broker.infrastructure.clock import Clock
from broker.infrastructure.runtime.settings import ServerSettings
from broker.infrastructure.settings import Settings
from broker.sessions.limits import SessionLimits
from broker.sessions.service import SessionService
from broker.wafer import sessions_api
from broker.wafer.authentication import NetworkGuard
from broker.wafer.sessions_api import BUSINESS_NETWORK, WaferSessionsAPI
from broker.wafer.settings import PRIVATE_NETWORKS, WaferSettings

ROLE = "wafer"


class WaferContext(Protocol):
    @property
    def settings(self) -> Settings: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def apps(self) -> Apps: ...
    @property
    def session_service(self) -> SessionService: ...
    @property
    def session_limits(self) -> SessionLimits: ...
    @property
    def addresses(self) -> ClientAddresses: ...


def mount(context: WaferContext) -> Mounted:
    if ROLE not in context.settings[ServerSettings].roles:
        return Mounted()
    return Mounted(routes=_session_routes(context))


def _session_routes(context: WaferContext) -> Sequence[Route]:
    """The final slash of the path is optional."""
    networks = context.settings[WaferSettings].wafer_networks or PRIVATE_NETWORKS
    guard = NetworkGuard(addresses=context.addresses, networks=networks)
    api = WaferSessionsAPI(
        session_service=context.session_service,
        apps=context.apps,
        limits=context.session_limits,
        guard=guard,
        clock=context.clock,
    )
    routes = bind_endpoints(api, sessions_api.ENDPOINTS, {BUSINESS_NETWORK: api.authenticate})
    return [*routes, *(replace(route, alias=route.path.rstrip("/")) for route in routes)]
