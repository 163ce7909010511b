"""Tunnels for the backends of apps: endpoints at and below `/tunnels`.

A backend authenticates with the app's secret or the admin token. Another app's tunnel has the
same answer as an unknown tunnel. CORS headers are never sent: no page uses these endpoints.
"""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from pydantic import AfterValidator, Field, StringConstraints

from broker.apps.authentication import SERVER, AppScopedRequest
from broker.apps.model import App
from broker.infrastructure.api.endpoint import BODY_OR_QUERY, QUERY, Endpoint
from broker.infrastructure.api.schema import Count, ResponseModel
from broker.infrastructure.codec import decode
from broker.sessions.authentication import SessionCredentials
from broker.sessions.errors import InvalidSession
from broker.tunnels.errors import TooManyTunnels, UnknownTunnel
from broker.tunnels.model import (
    ENDED_BY_BACKEND,
    CloseRequest,
    Tunnel,
    is_tunnel_id,
)
from broker.tunnels.rules import (
    GROUP_NAME,
    check_close_reason,
    check_groups,
    check_meta,
    check_subject,
)
from broker.tunnels.service import NewTunnel, TunnelDetails, TunnelService


def _checked_meta(value: dict[str, Any]) -> dict[str, Any]:
    check_meta(value)
    return value


MetaField = Annotated[dict[str, Any], AfterValidator(_checked_meta)]

GroupsField = Annotated[
    list[Annotated[str, StringConstraints(pattern=f"^{GROUP_NAME}$")]], AfterValidator(check_groups)
]

SubjectField = Annotated[str, AfterValidator(check_subject)]

TunnelIdField = Annotated[str, StringConstraints(max_length=64)]


class NewTunnelRequest(AppScopedRequest):
    session: SessionCredentials | None = None
    subject: SubjectField | None = None
    meta: MetaField = Field(default_factory=dict)
    expires_in: Annotated[int, Field(ge=1, le=86_400)] = 60


class EditTunnelRequest(AppScopedRequest):
    meta: MetaField | None = None
    groups: GroupsField | None = None


class EndTunnelRequest(AppScopedRequest):
    code: Annotated[int, Field(ge=4000, le=4999)] = ENDED_BY_BACKEND
    reason: Annotated[str, AfterValidator(check_close_reason)] = ""


class TunnelListRequest(AppScopedRequest):
    subject: str = ""
    group: str = ""
    after: TunnelIdField = ""


class NewTunnelResponse(ResponseModel):
    tunnel_id: str
    url: str
    expires_in: Count


class TunnelView(ResponseModel):
    """A tunnel.  opened_at, seen_at: Unix seconds."""

    tunnel_id: str
    state: str
    subject: NotRequired[str]
    meta: dict[str, Any]
    groups: list[str]
    opened_at: float
    seen_at: float
    epoch: str


class TunnelResponse(TunnelView):
    """offset: of the last message that was pushed."""

    offset: Count


class TunnelListResponse(ResponseModel):
    tunnels: list[TunnelView]
    next: NotRequired[str]


class TunnelServerAPI:
    """Creates, reads, changes and ends tunnels for backends.

    url: of the WebSocket, without a ticket.
    """

    def __init__(self, service: TunnelService, url: str) -> None:
        self._service = service
        self._url = url

    async def create(self, app: App, body: NewTunnelRequest) -> NewTunnelResponse:
        new = NewTunnel(
            session=body.session.token() if body.session else None,
            subject=body.subject or "",
            meta=check_meta(body.meta),
            expires_in=body.expires_in,
        )
        created = await self._service.create(app, new)
        return {
            "tunnel_id": created.tunnel_id,
            "url": f"{self._url}/{created.ticket}",
            "expires_in": body.expires_in,
        }

    async def get(self, app: App, query: AppScopedRequest, tunnel_id: str) -> TunnelResponse:
        return _response(await self._service.get(app, _checked_id(tunnel_id)))

    async def edit(self, app: App, body: EditTunnelRequest, tunnel_id: str) -> TunnelResponse:
        details = await self._service.change(
            app,
            _checked_id(tunnel_id),
            meta=None if body.meta is None else check_meta(body.meta),
            groups=None if body.groups is None else check_groups(body.groups),
        )
        return _response(details)

    async def end(self, app: App, body: EndTunnelRequest, tunnel_id: str) -> None:
        await self._service.end(app, _checked_id(tunnel_id), CloseRequest(body.code, body.reason))

    async def list(self, app: App, query: TunnelListRequest) -> TunnelListResponse:
        page = await self._service.find(
            app, subject=query.subject, group=query.group, after=query.after
        )
        response: TunnelListResponse = {"tunnels": [_view(tunnel) for tunnel in page.tunnels]}
        if page.next:
            response["next"] = page.next
        return response


def _checked_id(tunnel_id: str) -> str:
    if not is_tunnel_id(tunnel_id):
        raise UnknownTunnel
    return tunnel_id


def _view(tunnel: Tunnel) -> TunnelView:
    view: TunnelView = {
        "tunnel_id": tunnel.id,
        "state": tunnel.state.value,
        "meta": decode(tunnel.meta),
        "groups": list(tunnel.groups),
        "opened_at": tunnel.opened_at,
        "seen_at": tunnel.seen_at,
        "epoch": tunnel.epoch,
    }
    if tunnel.subject:
        view["subject"] = tunnel.subject
    return view


def _response(details: TunnelDetails) -> TunnelResponse:
    return {**_view(details.tunnel), "offset": details.offset}


TUNNEL_PATH = "/tunnels/{tunnel_id}"

ENDPOINTS = [
    Endpoint(
        "POST",
        "/tunnels",
        TunnelServerAPI.create,
        role="tunnels",
        auth=SERVER,
        operation_id="createTunnel",
        summary="Create a tunnel",
        request=NewTunnelRequest,
        response=NewTunnelResponse,
        errors=(InvalidSession, TooManyTunnels),
        status=201,
    ),
    Endpoint(
        "GET",
        "/tunnels",
        TunnelServerAPI.list,
        role="tunnels",
        auth=SERVER,
        operation_id="listTunnels",
        summary="List the app's tunnels",
        request=TunnelListRequest,
        request_in=QUERY,
        response=TunnelListResponse,
    ),
    Endpoint(
        "GET",
        TUNNEL_PATH,
        TunnelServerAPI.get,
        role="tunnels",
        auth=SERVER,
        operation_id="getTunnel",
        summary="Return a tunnel",
        request=AppScopedRequest,
        request_in=QUERY,
        response=TunnelResponse,
        errors=(UnknownTunnel,),
    ),
    Endpoint(
        "PATCH",
        TUNNEL_PATH,
        TunnelServerAPI.edit,
        role="tunnels",
        auth=SERVER,
        operation_id="updateTunnel",
        summary="Replace meta or groups of a tunnel",
        request=EditTunnelRequest,
        response=TunnelResponse,
        errors=(UnknownTunnel,),
    ),
    Endpoint(
        "DELETE",
        TUNNEL_PATH,
        TunnelServerAPI.end,
        role="tunnels",
        auth=SERVER,
        operation_id="endTunnel",
        summary="End a tunnel",
        request=EndTunnelRequest,
        request_in=BODY_OR_QUERY,
        errors=(UnknownTunnel,),
        status=204,
    ),
]
