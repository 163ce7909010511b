"""Wafer's tunnel calls: `POST /get/wsurl` and `POST /ws/push`, signed with the app's key.

They have status 200. A wrong signature, a wrong `tcId` and an app without Wafer fields have one
answer, which counts as a failed attempt of its address.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NotRequired
from urllib.parse import urlsplit

import structlog
from aiohttp import web

from broker.apps.model import DEFAULT_APP, App
from broker.apps.ports import Apps, WaferKeys
from broker.errors import InvalidRequest, RateLimited, Unavailable
from broker.infrastructure.api.client_address import ClientAddresses
from broker.infrastructure.api.endpoint import Auth, Endpoint, Operation
from broker.infrastructure.api.rate_limit import RateLimiter
from broker.infrastructure.api.schema import RequestFields, ResponseModel
from broker.infrastructure.codec import decode, encode
from broker.infrastructure.outbound.ssrf import may_be_public
from broker.infrastructure.settings_sources import variable
from broker.infrastructure.transport.bodies import read_body
from broker.tunnels.errors import UnknownTunnel
from broker.tunnels.model import ENDED_BY_BACKEND, WAFER, CloseRequest, is_tunnel_id
from broker.tunnels.ports import Push
from broker.tunnels.service import NewTunnel, TunnelService
from broker.wafer.callbacks import WaferCallbacks
from broker.wafer.errors import TunnelCallFailed, TunnelCode, WrongSignature
from broker.wafer.rules import APP_PREFIX, CLOSE, DELIVERIES_MAX, WaferPacket, parse_packets
from broker.wafer.signing import client_id, is_signed, signature

log = structlog.get_logger()

SIGNED = Auth({}, (), ())
"""The signature in the body."""

TICKET_TTL = 60
"""Seconds until the ticket of a new tunnel expires."""

KEEP = 30.0
"""Seconds for which a message is kept, so that it reaches an open tunnel."""

PUSH_MAX_BYTES = 512 * 1024

URL_MAX = 500
"""Characters of a `receiveUrl`."""

NO_KEY = "0" * 32
"""Used for an app without a key, so that its answer takes the same time."""

CLOSED = CloseRequest(ENDED_BY_BACKEND, "")


class TunnelCallRequest(RequestFields, total=False):
    """data: JSON text.  tcId: the MD5 of the `ServerHost`.  signature: of `data`.

    tcKey, dataEncode: are not read.
    """

    data: Any
    tcId: Any  # noqa: N815  # Wafer's names
    tcKey: Any  # noqa: N815
    dataEncode: Any  # noqa: N815
    signature: Any


class TunnelCallResponse(ResponseModel):
    """data: of `get/wsurl` a JSON text with its signature, of `ws/push` an object."""

    code: int
    message: str
    data: NotRequired[str | dict[str, Any]]
    signature: NotRequired[str]


class SignedCall(NamedTuple):
    """A call of a business server.  key: of its app."""

    app: App
    key: str


class WaferTunnelsAPI:
    """Creates tunnels and pushes packets for business servers.

    url: of the WebSocket, without a ticket.
    is_private_allowed: whether a `receiveUrl` may use http, and have an address that is not public.
    """

    def __init__(
        self,
        *,
        service: TunnelService,
        callbacks: WaferCallbacks,
        apps: Apps,
        keys: WaferKeys,
        failures: RateLimiter,
        addresses: ClientAddresses,
        url: str,
        is_private_allowed: bool,
    ) -> None:
        self._service = service
        self._callbacks = callbacks
        self._apps = apps
        self._keys = keys
        self._failures = failures
        self._addresses = addresses
        self._url = url
        self._is_private_allowed = is_private_allowed

    async def authenticate(self, http: web.Request, operation: Operation) -> object:
        """Call the handler with a signed call. Each failure is an answer with a code."""
        try:
            fields = _read_fields(await _read(http))
            with self._failures.counting_failures(self._addresses.of(http)):
                call = self._verify(fields, http.match_info.get("app", DEFAULT_APP))
            return await operation.handler(call, fields)
        except TunnelCallFailed as failed:
            return _failure(failed.code, str(failed))
        except WrongSignature as wrong:  # not over the limit of failed attempts
            log.warning("wafer signature refused", app=wrong.app)
            return _failure(TunnelCode.WRONG_SIGNATURE, str(wrong))
        except RateLimited as limited:
            return _failure(TunnelCode.LIMIT_REACHED, str(limited))
        except Unavailable as unavailable:
            return _failure(TunnelCode.UNAVAILABLE, str(unavailable))

    async def create(self, call: SignedCall, body: Mapping[str, object]) -> TunnelCallResponse:
        """Create a tunnel whose callbacks go to `receiveUrl`."""
        url = self._receive_url(str(body["data"]))
        if self._callbacks.is_paused(call.app, url):
            raise TunnelCallFailed(
                TunnelCode.UNAVAILABLE, "receiveUrl has failed too often; try again later"
            )
        new = NewTunnel(expires_in=TICKET_TTL, api=WAFER, callback_url=url)
        created = await self._service.create(call.app, new)
        answer = {"tunnelId": created.tunnel_id, "connectUrl": f"{self._url}/{created.ticket}"}
        data = encode(answer).decode()
        return {**_success(), "data": data, "signature": signature(data, call.key)}

    async def push(self, call: SignedCall, body: Mapping[str, object]) -> TunnelCallResponse:
        """Send packets in their order."""
        try:
            packets = parse_packets(str(body["data"]))
        except ValueError as error:
            raise TunnelCallFailed(TunnelCode.INVALID_DATA, str(error)) from None
        if sum(len(packet.tunnel_ids) for packet in packets) > DELIVERIES_MAX:
            raise TunnelCallFailed(
                TunnelCode.LIMIT_REACHED, f"more than {DELIVERIES_MAX} deliveries; send several"
            )
        invalid: dict[str, None] = {}
        for packet in packets:
            invalid |= dict.fromkeys(await self._send(call.app, packet))
        return {**_success(), "data": {"invalidTunnelIds": list(invalid)}}

    def _verify(self, fields: Mapping[str, str], app_id: str) -> SignedCall:
        """Raises WrongSignature."""
        app = self._apps.get(app_id)
        key = self._keys.wafer_key(app_id) if app is not None else None
        is_right = is_signed(fields["data"], fields["signature"], key or NO_KEY)
        host = app.wafer_host if app is not None else ""
        is_known = hmac.compare_digest(client_id(host).encode(), fields["tcId"].encode())
        if app is None or key is None or not (host and is_known and is_right):
            raise WrongSignature(app.id if app is not None else None)
        return SignedCall(app, key)

    def _receive_url(self, data: str) -> str:
        """Raises TunnelCallFailed."""
        try:
            fields = decode(data)
        except (ValueError, RecursionError):
            fields = None
        url = fields.get("receiveUrl") if isinstance(fields, dict) else None
        if not isinstance(url, str):
            raise TunnelCallFailed(TunnelCode.INVALID_DATA, "data has no receiveUrl")
        if problem := self._url_problem(url):
            raise TunnelCallFailed(TunnelCode.RECEIVER_REFUSED, f"receiveUrl {problem}")
        return url

    def _url_problem(self, url: str) -> str | None:
        """Return why callbacks cannot be sent to the URL; None if they can."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            return "is not a URL"
        if parts.scheme not in ("http", "https") or not host or port == 0 or len(url) > URL_MAX:
            return "is not an http or https URL"
        if parts.username is not None or parts.fragment or not url.isascii():
            return "has a user, a fragment, or characters that are not percent-encoded"
        if self._is_private_allowed:
            return None
        if parts.scheme == "http" or not may_be_public(host):
            allow = f"{variable('wafer_callbacks_private')}=true"
            return f"is not an https URL with a public address: to allow it, set {allow}"
        return None

    async def _send(self, app: App, packet: WaferPacket) -> Sequence[str]:
        """Send a packet, and return the ids without an open tunnel of the app's Wafer API."""
        known = [one for one in packet.tunnel_ids if is_tunnel_id(one)]
        if packet.type == CLOSE:
            open_ids = {one for one in known if await self._close(app, one)}
        else:
            pushes = [Push(one, packet.content, keep=KEEP) for one in known]
            results = await self._service.push(app, pushes, WAFER) if pushes else ()
            open_ids = {
                one
                for one, result in zip(known, results, strict=True)
                if result is not None and result.is_open
            }
        return [one for one in packet.tunnel_ids if one not in open_ids]

    async def _close(self, app: App, tunnel_id: str) -> bool:
        try:
            await self._service.end(app, tunnel_id, CLOSED, WAFER)
        except UnknownTunnel:
            return False
        return True


async def _read(http: web.Request) -> object:
    try:
        return decode(await read_body(http))
    except (ValueError, RecursionError, InvalidRequest, web.HTTPRequestEntityTooLarge):
        raise TunnelCallFailed(TunnelCode.NOT_JSON, "the body is not JSON, or too large") from None


def _read_fields(body: object) -> Mapping[str, str]:
    """Return the fields of a call. Raises TunnelCallFailed."""
    if not isinstance(body, dict):
        raise TunnelCallFailed(TunnelCode.NOT_JSON, "the body is not a JSON object")
    fields = {name: body.get(name) for name in ("data", "signature", "tcId")}
    for name in ("data", "signature"):
        if not isinstance(fields[name], str) or not fields[name]:
            raise TunnelCallFailed(TunnelCode.NOT_SIGNED, f"{name} is missing or not a string")
    return {name: value if isinstance(value, str) else "" for name, value in fields.items()}


def _success() -> TunnelCallResponse:
    return {"code": TunnelCode.OK, "message": "OK"}


def _failure(code: TunnelCode, message: str) -> TunnelCallResponse:
    return {"code": code, "message": message}


ENDPOINTS = [
    Endpoint(
        "POST",
        prefix + path,
        handler,
        role="wafer",
        auth=SIGNED,
        operation_id=operation_id + suffix,
        summary=f"{summary}{of_app}, for a Wafer server SDK",
        request=TunnelCallRequest,
        response=TunnelCallResponse,
        body_max_bytes=PUSH_MAX_BYTES,
    )
    for path, operation_id, handler, summary in (
        ("/get/wsurl", "createWaferTunnel", WaferTunnelsAPI.create, "Create a tunnel"),
        ("/ws/push", "pushToWaferTunnels", WaferTunnelsAPI.push, "Send packets to tunnels"),
    )
    for prefix, suffix, of_app in (("", "", ""), (APP_PREFIX, "OfApp", " of an app"))
]
