"""Pushes of backends: `/tunnels/push`, and `push` of one tunnel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints

from broker.apps.authentication import SERVER, AppScopedRequest
from broker.apps.model import App
from broker.errors import InvalidRequest
from broker.infrastructure.api.endpoint import Endpoint
from broker.infrastructure.api.schema import Count, RequestModel, ResponseModel
from broker.infrastructure.codec import encode
from broker.tunnels.errors import UnknownTunnel
from broker.tunnels.model import FRAME_MAX_BYTES, is_tunnel_id
from broker.tunnels.ports import AppendedMessage, Push, TunnelQuery
from broker.tunnels.rules import check_subject
from broker.tunnels.service import TunnelService

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


SubjectField = Annotated[str, AfterValidator(check_subject)]

TunnelIdField = Annotated[str, StringConstraints(max_length=64)]

PushIdField = Annotated[str, StringConstraints(min_length=1, max_length=64)]

KeepField = Annotated[int, Field(ge=0, le=KEEP_MAX)]


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


class PushResult(ResponseModel):
    """delivered, kept: open and away tunnels for which the message is stored."""

    delivered: Count
    kept: Count
    unknown: list[str]


class PushResponse(ResponseModel):
    results: list[PushResult]


class TunnelPushResponse(ResponseModel):
    offset: Count


class TunnelPushAPI:
    """Pushes messages to tunnels."""

    def __init__(self, service: TunnelService) -> None:
        self._service = service

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
        if not is_tunnel_id(tunnel_id):
            raise UnknownTunnel
        [result] = await self._service.push(app, list(_pushes(body, [tunnel_id])))
        if result is None:
            raise UnknownTunnel
        return {"offset": result.offset}


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


ENDPOINTS = [
    Endpoint(
        "POST",
        "/tunnels/push",
        TunnelPushAPI.push,
        role="tunnels",
        auth=SERVER,
        operation_id="pushMessages",
        summary="Send messages to tunnels",
        request=PushRequest,
        response=PushResponse,
        body_max_bytes=PUSH_MAX_BYTES,
    ),
    Endpoint(
        "POST",
        "/tunnels/{tunnel_id}/push",
        TunnelPushAPI.push_one,
        role="tunnels",
        auth=SERVER,
        operation_id="pushMessage",
        summary="Send a message to a tunnel",
        request=TunnelPushRequest,
        response=TunnelPushResponse,
        errors=(UnknownTunnel,),
        body_max_bytes=PUSH_MAX_BYTES,
    ),
]
