"""Tunnels for the backends of apps: endpoints at and below `/tunnels`.

A backend authenticates with the app's secret or the admin token. Another app's tunnel has the
same answer as an unknown tunnel. CORS headers are never sent: no page uses these endpoints.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Annotated, Any, NotRequired

from pydantic import AfterValidator, Field, StringConstraints

from broker.apps.authentication import SERVER, AppScopedRequest
from broker.apps.model import App
from broker.errors import InvalidRequest
from broker.infrastructure.api.endpoint import BODY_OR_QUERY, QUERY, Endpoint
from broker.infrastructure.api.schema import Count, RequestModel, ResponseModel
from broker.infrastructure.codec import decode, encode
from broker.sessions.authentication import SessionCredentials
from broker.sessions.errors import InvalidSession
from broker.tunnels.errors import TooManyTunnels, UnknownTunnel
from broker.tunnels.model import (
    ENDED_BY_BACKEND,
    FRAME_MAX_BYTES,
    CloseRequest,
    Tunnel,
    is_tunnel_id,
)
from broker.tunnels.ports import AppendedMessage, Push, TunnelQuery
from broker.tunnels.rules import (
    GROUP_NAME,
    check_close_reason,
    check_groups,
    check_meta,
    check_subject,
)
from broker.tunnels.service import NewTunnel, TunnelDetails, TunnelService

PUSH_MAX_BYTES = 512 * 1024
"""Bytes of a push request."""

MESSAGES_MAX = 100

DELIVERIES_MAX = 1_000
"""Messages of one request, each counted for each of its tunnels."""

DATA_MAX_BYTES = FRAME_MAX_BYTES - 64
"""Bytes of a message's data. With `type` and `offset` it fits into a frame."""

KEEP_MAX = 86_400

KEEP_MIN = 10.0
"""Seconds for which each message is kept, so that it reaches an open tunnel."""


def _checked_meta(value: dict[str, Any]) -> dict[str, Any]:
    check_meta(value)
    return value


MetaField = Annotated[dict[str, Any], AfterValidator(_checked_meta)]

GroupsField = Annotated[
    list[Annotated[str, StringConstraints(pattern=f"^{GROUP_NAME}$")]], AfterValidator(check_groups)
]

SubjectField = Annotated[str, AfterValidator(check_subject)]

TunnelIdField = Annotated[str, StringConstraints(max_length=64)]

PushIdField = Annotated[str, StringConstraints(min_length=1, max_length=64)]

KeepField = Annotated[int, Field(ge=0, le=KEEP_MAX)]


class NewTunnelRequest(AppScopedRequest):
    session: SessionCredentials | None = None
    subject: SubjectField | None = None
    meta: MetaField = Field(default_factory=dict)
    expires_in: Annotated[int, Field(ge=1, le=86_400)] = 60


class PushTarget(RequestModel):
    """Tunnels of one message. A tunnel that is named several times gets it once."""

    tunnel_ids: Annotated[
        list[TunnelIdField], Field(max_length=DELIVERIES_MAX, default_factory=list)
    ]
    subjects: Annotated[list[SubjectField], Field(max_length=DELIVERIES_MAX, default_factory=list)]
    groups: Annotated[list[str], Field(max_length=DELIVERIES_MAX, default_factory=list)]


class PushMessage(RequestModel):
    data: Any = Field()
    id: PushIdField | None = None
    keep: KeepField = 120


class AddressedMessage(PushMessage):
    to: PushTarget


class PushRequest(AppScopedRequest):
    messages: Annotated[list[AddressedMessage], Field(max_length=MESSAGES_MAX)]


class TunnelPushRequest(AppScopedRequest, PushMessage):
    """A message for one tunnel."""


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


class PushResult(ResponseModel):
    """delivered, kept: open and away tunnels for which the message is stored."""

    delivered: Count
    kept: Count
    unknown: list[str]


class PushResponse(ResponseModel):
    results: list[PushResult]


class TunnelPushResponse(ResponseModel):
    offset: Count


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
    """Creates, reads and ends tunnels, and pushes messages, for backends.

    url: of the WebSocket, without a ticket.
    """

    def __init__(self, *, service: TunnelService, url: str) -> None:
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

    async def push(self, app: App, body: PushRequest) -> PushResponse:
        targets = [message.to for message in body.messages]
        found = await self._service.resolve(
            app,
            subjects=sorted({one for to in targets for one in to.subjects}),
            groups=sorted({one for to in targets for one in to.groups}),
            limit=DELIVERIES_MAX,
        )
        addressed = [(message, _tunnels_of(app, message.to, found)) for message in body.messages]
        if sum(len(ids) for _, ids in addressed) > DELIVERIES_MAX:
            raise InvalidRequest(f"messages: more than {DELIVERIES_MAX} deliveries; send several")
        pushes = [
            push for index, (one, ids) in enumerate(addressed) for push in _pushes(one, ids, index)
        ]
        results = iter(await self._service.push(app, pushes) if pushes else ())
        return {
            "results": [
                _result(message.to, {tunnel_id: next(results) for tunnel_id in ids})
                for message, ids in addressed
            ]
        }

    async def push_one(
        self, app: App, body: TunnelPushRequest, tunnel_id: str
    ) -> TunnelPushResponse:
        [result] = await self._service.push(app, list(_pushes(body, [_checked_id(tunnel_id)])))
        if result is None:
            raise UnknownTunnel
        return {"offset": result.offset}

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


def _tunnels_of(
    app: App, to: PushTarget, found: Mapping[TunnelQuery, Sequence[str]]
) -> Sequence[str]:
    """Return the ids of a message's tunnels, each once."""
    named = [one for one in to.tunnel_ids if is_tunnel_id(one)]
    queries = [TunnelQuery(app.key, subject=one) for one in to.subjects]
    queries += [TunnelQuery(app.key, group=one) for one in to.groups]
    return list(dict.fromkeys([*named, *chain.from_iterable(found[one] for one in queries)]))


def _pushes(message: PushMessage, tunnel_ids: Sequence[str], index: int = 0) -> Iterator[Push]:
    data = encode(message.data)
    if len(data) > DATA_MAX_BYTES:
        raise InvalidRequest(f"messages.{index}.data: larger than {DATA_MAX_BYTES} bytes")
    keep = max(KEEP_MIN, message.keep)
    return (Push(tunnel_id, data, message.id or "", keep) for tunnel_id in tunnel_ids)


def _result(to: PushTarget, results: Mapping[str, AppendedMessage | None]) -> PushResult:
    stored = [result for result in results.values() if result is not None]
    delivered = sum(result.is_open for result in stored)
    unknown = [one for one in dict.fromkeys(to.tunnel_ids) if results.get(one) is None]
    return {"delivered": delivered, "kept": len(stored) - delivered, "unknown": unknown}


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
        summary="Create a tunnel",
        request=NewTunnelRequest,
        response=NewTunnelResponse,
        errors=(InvalidSession, TooManyTunnels),
        status=201,
    ),
    Endpoint(
        "POST",
        "/tunnels/push",
        TunnelServerAPI.push,
        role="tunnels",
        auth=SERVER,
        summary="Send messages to tunnels",
        request=PushRequest,
        response=PushResponse,
        body_max_bytes=PUSH_MAX_BYTES,
    ),
    Endpoint(
        "GET",
        "/tunnels",
        TunnelServerAPI.list,
        role="tunnels",
        auth=SERVER,
        summary="List the app's tunnels",
        request=TunnelListRequest,
        request_in=QUERY,
        response=TunnelListResponse,
    ),
    Endpoint(
        "POST",
        TUNNEL_PATH + "/push",
        TunnelServerAPI.push_one,
        role="tunnels",
        auth=SERVER,
        summary="Send a message to a tunnel",
        request=TunnelPushRequest,
        response=TunnelPushResponse,
        errors=(UnknownTunnel,),
        body_max_bytes=PUSH_MAX_BYTES,
    ),
    Endpoint(
        "GET",
        TUNNEL_PATH,
        TunnelServerAPI.get,
        role="tunnels",
        auth=SERVER,
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
        summary="End a tunnel",
        request=EndTunnelRequest,
        request_in=BODY_OR_QUERY,
        errors=(UnknownTunnel,),
        status=204,
    ),
]
