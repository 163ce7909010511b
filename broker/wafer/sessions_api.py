"""Wafer's session calls: `POST /mina_auth/`, for business servers with its server SDK.

They have no authentication, so that `NetworkGuard` limits who may make them. The sessions are
those of `broker/sessions`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from aiohttp import web

from broker.apps.model import DEFAULT_APP, App
from broker.apps.ports import Apps
from broker.errors import BrokerError, InvalidRequest
from broker.identity.errors import UserDataDecryptionFailed
from broker.identity.model import Identity
from broker.infrastructure.api.endpoint import Auth, Endpoint, Operation
from broker.infrastructure.api.schema import RequestFields, ResponseModel, parse
from broker.infrastructure.clock import Clock, seconds_until
from broker.infrastructure.codec import decode, encode
from broker.infrastructure.transport.bodies import read_body
from broker.sessions.authentication import SessionCredentials
from broker.sessions.limits import SessionLimits
from broker.sessions.service import Decrypt, SessionService
from broker.wafer.authentication import NetworkGuard
from broker.wafer.errors import ReturnCode, SessionCallFailed, UnknownBusinessServer, return_code
from broker.wafer.rules import APP_PREFIX

BUSINESS_NETWORK = Auth({}, (), errors=(UnknownBusinessServer,))
"""No authentication: the client's network is checked."""

USER_INFO_MAX_BYTES = 4096

CODE_MAX, DATA_MAX, IV_SIZE = 256, 16_384, 24
"""Characters of the parameters, as in `POST /sessions` and `POST /sessions/decrypt`."""

Fields = Mapping[str, object]


class SessionCallRequest(RequestFields, total=False):
    """version, componentName: are not read.  interface: `{interfaceName, para}`."""

    version: Any
    componentName: Any  # noqa: N815  # Wafer's name
    interface: Any


class SessionCallResponse(ResponseModel):
    """returnData: an object, or the empty text after a failure."""

    version: int
    componentName: str  # noqa: N815
    returnCode: int  # noqa: N815
    returnMessage: str  # noqa: N815
    returnData: dict[str, Any] | str  # noqa: N815


class EncryptedData(NamedTuple):
    data: str
    iv: str


class Result(NamedTuple):
    message: str
    data: dict[str, Any]


class WaferSessionsAPI:
    """Opens and checks sessions for business servers."""

    def __init__(
        self,
        *,
        session_service: SessionService,
        apps: Apps,
        limits: SessionLimits,
        guard: NetworkGuard,
        clock: Clock,
    ) -> None:
        self._session_service = session_service
        self._apps = apps
        self._limits = limits
        self._guard = guard
        self._clock = clock

    async def authenticate(self, http: web.Request, operation: Operation) -> object:
        """Call the handler with the body of a known server. Raises UnknownBusinessServer."""
        self._guard.check(http)
        try:
            body = decode(await read_body(http))
        except (ValueError, RecursionError, InvalidRequest, web.HTTPRequestEntityTooLarge):
            return _answer(ReturnCode.NOT_JSON, ReturnCode.NOT_JSON.name)
        if not isinstance(body, dict):
            return _answer(ReturnCode.NOT_JSON, ReturnCode.NOT_JSON.name)
        return await operation.handler(body, **http.match_info)

    async def call(self, body: Mapping[str, object], app: str = DEFAULT_APP) -> SessionCallResponse:
        try:
            method, para = _read_interface(body.get("interface"))
            result = await method(self, self._app(app), para)
        except SessionCallFailed as failed:
            return _answer(failed.code, failed.code.name)
        except BrokerError as error:
            code = return_code(error)
            return _answer(code, code.name)
        return _answer(ReturnCode.SUCCESS, result.message, result.data)

    async def open(self, app: App, para: Fields) -> Result:
        """Open a session with a `js_code`, and store what is known about its person."""
        code, encrypted = _required(para, "code", CODE_MAX), _encrypted(para)

        def describe(identity: Identity, decrypt: Decrypt | None) -> str:
            return describe_user(identity, decrypt, encrypted)

        async with self._limits.opening_for_app(app):
            opened = await self._session_service.open(app, code, describe)
        data = {
            "id": opened.session.id,
            "skey": opened.skey,
            "user_info": decode(opened.user_info),
            "duration": seconds_until(opened.session.expires_at, self._clock()),
        }
        return Result("NEW_SESSION_SUCCESS", data)

    async def check(self, app: App, para: Fields) -> Result:
        """Return what is known about the person of a session. This counts as a use."""
        fields = {name: _required(para, name) for name in ("id", "skey")}
        try:
            token = parse(SessionCredentials, fields).token()
        except InvalidRequest:
            raise SessionCallFailed(ReturnCode.AUTH_FAIL) from None
        session, user_info = await self._session_service.check_with_user(token, app)
        user_info = user_info or describe_user(session.phone.identity, None, None)
        return Result("AUTH_SUCCESS", {"user_info": decode(user_info)})

    def _app(self, app_id: str) -> App:
        app = self._apps.get(app_id)
        if app is None:
            raise SessionCallFailed(ReturnCode.NO_ACCOUNT)
        return app


Method = Callable[[WaferSessionsAPI, App, Fields], Awaitable[Result]]

METHODS: Mapping[str, Method] = {
    "qcloud.cam.id_skey": WaferSessionsAPI.open,
    "qcloud.cam.auth": WaferSessionsAPI.check,
}
"""By `interfaceName`. Wafer's `qcloud.cam.initdata` reconfigures the server without authentication,
and no SDK calls `qcloud.cam.decrypt`."""


def describe_user(
    identity: Identity, decrypt: Decrypt | None, encrypted: EncryptedData | None
) -> str:
    """Return `user_info` as JSON text. The ids are those that the provider has verified.

    Raises UserDataDecryptionFailed, also for data over `USER_INFO_MAX_BYTES`.
    """
    if decrypt is None or encrypted is None:
        user: dict[str, object] = {"openId": identity.id, "nickName": identity.id}
    else:
        user = {**decrypt(*encrypted), "openId": identity.id}
    user.pop("unionId", None)
    if identity.unionid is not None:
        user["unionId"] = identity.unionid
    text = encode(user)
    if len(text) > USER_INFO_MAX_BYTES:
        raise UserDataDecryptionFailed
    return text.decode()


def _read_interface(interface: object) -> tuple[Method, Fields]:
    """Raises SessionCallFailed."""
    fields: Fields = interface if isinstance(interface, dict) else {}
    name, para = fields.get("interfaceName"), fields.get("para")
    if not name:
        raise SessionCallFailed(ReturnCode.NO_INTERFACE_NAME)
    if not isinstance(name, str) or name not in METHODS:
        raise SessionCallFailed(ReturnCode.UNKNOWN_INTERFACE)
    if para is None:
        raise SessionCallFailed(ReturnCode.NO_PARA)
    if not isinstance(para, dict):
        raise SessionCallFailed(ReturnCode.INVALID_PARA)
    return METHODS[name], para


def _required(para: Fields, name: str, longest: int | None = None) -> str:
    value = para.get(name)
    if not isinstance(value, str) or not value or (longest and len(value) > longest):
        raise SessionCallFailed(ReturnCode.INVALID_PARA)
    return value


def _encrypted(para: Fields) -> EncryptedData | None:
    """Return the encrypted data; None if `encrypt_data` is missing or empty."""
    if not para.get("encrypt_data"):
        return None
    iv = _required(para, "iv", IV_SIZE)
    if len(iv) != IV_SIZE:
        raise SessionCallFailed(ReturnCode.INVALID_PARA)
    return EncryptedData(_required(para, "encrypt_data", DATA_MAX), iv)


def _answer(
    code: ReturnCode, message: str, data: dict[str, Any] | None = None
) -> SessionCallResponse:
    return {
        "version": 1,
        "componentName": "MA",
        "returnCode": code,
        "returnMessage": message,
        "returnData": "" if data is None else data,
    }


PATH = "/mina_auth/"

ENDPOINTS = [
    Endpoint(
        "POST",
        prefix + PATH,
        WaferSessionsAPI.call,
        role="wafer",
        auth=BUSINESS_NETWORK,
        operation_id=f"callWaferSessions{suffix}",
        summary=f"Open or check a session{of_app}, for a Wafer server SDK",
        request=SessionCallRequest,
        response=SessionCallResponse,
    )
    for prefix, suffix, of_app in (("", "", ""), (APP_PREFIX, "OfApp", " of an app"))
]
