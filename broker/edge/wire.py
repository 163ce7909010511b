"""What requests look like, and how failures are answered: the same over HTTP and Socket.IO."""

from __future__ import annotations

import asyncio
import hmac
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, TypeVar
from unicodedata import category

import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from broker.errors import BrokerError, InvalidRequest, Unavailable
from broker.flow import Redeemed
from broker.metrics import REFUSALS
from broker.packing import pack, unpack
from broker.records import DEFAULT_APP
from broker.sessions import Opened, Shown

log = structlog.get_logger()

Wire = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Prepare = Callable[[web.Request, web.StreamResponse], Awaitable[None]]
"""Has its say on an answer before it leaves."""

BODY_MAX_BYTES = 64 * 1024

BODY_WITHIN = 10.0
"""Seconds that a body gets to arrive."""

JSON = {"Content-Type": "application/json; charset=utf-8"}

UrlSafe = r"^[A-Za-z0-9_-]+$"
AppId = Annotated[str, StringConstraints(min_length=1, max_length=64)]
LoginId = Annotated[str, StringConstraints(pattern=UrlSafe, max_length=64)]
Secret = Annotated[str, StringConstraints(pattern=UrlSafe, max_length=128)]
Openid = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Signature = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
Userinfo = Annotated[str, StringConstraints(min_length=1, max_length=16_384)]
Iv = Annotated[str, StringConstraints(min_length=24, max_length=24)]
Scene = Annotated[str, StringConstraints(pattern=UrlSafe, max_length=32)]
DeviceCode = Annotated[str, StringConstraints(min_length=1, max_length=256)]
JsCode = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class Request(BaseModel):
    """Fields that a call needs; further ones are ignored, so that the wire can grow."""

    model_config = ConfigDict(strict=True, extra="ignore")


class Nothing(Request):
    """A call without fields."""


class ConnectLogin(Request):
    app: AppId = DEFAULT_APP


class SessionProof(Request):
    id: LoginId
    skey: Secret

    def shown(self) -> Shown:
        return Shown(self.id, self.skey)


class OwnedLogin(Request):
    login_id: LoginId
    secret: Secret


class OpenSession(Request):
    app: AppId = DEFAULT_APP
    js_code: JsCode


class OfApp(Request):
    """Says whose session it is about, where the caller's credentials do not."""

    app: AppId | None = None


class OpenAppSession(OfApp):
    js_code: JsCode


class AppSession(OfApp, SessionProof):
    """A session that an app's own server was shown."""


class SignedData(AppSession):
    raw_data: Userinfo
    signature: Signature


class EncryptedData(AppSession):
    encrypted_data: Userinfo
    iv: Iv


class Person(OfApp):
    openid: Openid


class ScannedScene(Request):
    scene: Scene


class ScannedLogin(Request):
    login_id: LoginId


class ShownInvitation(Request):
    invitation: Secret


class Page(Request):
    """Which users to show: from the one that follows `after`, 1 to 999 of them."""

    after: Annotated[str, StringConstraints(pattern=r"^[ -~]*$", max_length=64)] = ""
    limit: Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,2}$")] = "100"


R = TypeVar("R", bound=Request)


def read(model: type[R], payload: object) -> R:
    """The payload as `model`; raises InvalidRequest, which names the first field that is wrong."""
    if not isinstance(payload, dict):  # as it nearly always is, and an ABC takes long to ask
        if not isinstance(payload, Mapping):
            raise InvalidRequest("want an object with named fields")
        payload = dict(payload)
    try:
        return model.model_validate(payload)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InvalidRequest(f"{field}: {first['msg']}") from None


async def whole_body(request: web.Request) -> bytes:
    """The body; raises InvalidRequest if it does not arrive whole and in time."""
    if request.content.is_eof():  # it came with its headers, as small ones do
        return await request.read()
    try:
        async with asyncio.timeout(BODY_WITHIN):
            return await request.read()
    except TimeoutError:
        raise InvalidRequest("the body did not come in time") from None
    except ConnectionError:
        raise InvalidRequest("the connection was lost before the end of the body") from None


async def json_body(request: web.Request) -> object:
    """The body as JSON; raises InvalidRequest for anything else."""
    try:
        body: object = unpack(await whole_body(request))
    except (ValueError, RecursionError):
        raise InvalidRequest("the body is not JSON in UTF-8") from None
    return body


def read_arguments(model: type[R], arguments: tuple[object, ...]) -> R:
    """The payload of a Socket.IO event: one object; none at all counts as an empty one."""
    if len(arguments) > 1:
        raise InvalidRequest("want one object, not several arguments")
    return read(model, arguments[0] if arguments else {})


CLOCK_ERROR = 0.1
"""Seconds by which two instances may estimate the time of one Redis differently."""


def seconds_until(end: float, now: float) -> int:
    """Whole seconds from `now` to `end`, rounded up and never negative, for the wire.

    `end` may be from another instance: the clock error is not rounded up to a second more.
    """
    return max(0, math.ceil(end - now - CLOCK_ERROR))


def session_answer(opened: Opened, now: float) -> Wire:
    """What whoever opens a session gets."""
    return {
        "id": opened.session.id,
        "skey": opened.skey,
        "expires_in": seconds_until(opened.session.expires_at, now),
    }


def token_answer(redeemed: Redeemed) -> Wire:
    """What whoever redeems a login gets, on a socket and from the token endpoint alike."""
    return {
        "access_token": redeemed.token.access_token,
        "token_type": "Bearer",
        "expires_in": redeemed.token.expires_in,
        "subject": redeemed.login.subject,
    }


def plain(text: str, longest: int) -> str:
    """Text from outside as it may be shown, at most `longest` long.

    Without what cannot be seen: control characters, and those that turn the
    direction of writing and so let one thing look like another (Unicode's C).
    """
    if text.isprintable():  # nearly always, and every request asks
        return text[:longest]
    return "".join(one for one in text[: 2 * longest] if category(one)[0] != "C")[:longest]


def failure(error: Exception) -> BrokerError:
    """Any exception as one that can be answered; one of ours as it is, a surprise logged."""
    if not isinstance(error, BrokerError):
        log.error("unexpected failure", exc_info=error)
        error = Unavailable()
    REFUSALS.labels(error.error).inc()
    return error


async def acked(call: Awaitable[Wire]) -> Wire:
    """The answer of a Socket.IO event: what `call` gives, or its failure's body."""
    try:
        return await call
    except Exception as error:  # every event is answered
        return failure(error).body()


def is_secret(shown: str, secret: str) -> bool:
    """Whether a header has the secret.  aiohttp escapes bytes that are not UTF-8."""
    return hmac.compare_digest(shown.encode(errors="surrogateescape"), secret.encode())


def answer(
    body: object, headers: Mapping[str, str] | None = None, *, status: int = 200
) -> web.Response:
    """An answer in JSON."""
    return web.Response(body=pack(body), status=status, headers={**JSON, **(headers or {})})


def refusal(
    error: BrokerError, *, status: int | None = None, scheme: str | None = None
) -> web.Response:
    """The failure as an answer.  status, scheme: replace the error's own."""
    status = status or error.status
    headers = {"Cache-Control": "no-store"}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if status == 401:
        headers["WWW-Authenticate"] = scheme or error.scheme
    return answer(error.body(), headers, status=status)


def answering(check: Callable[[web.Request], None] = lambda request: None) -> Middleware:
    """Answers every failure of an HTTP request as `{"error", "error_description"}`.

    check: raises a BrokerError for what is not taken now.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            check(request)
            return await handler(request)
        except web.HTTPRequestEntityTooLarge:
            return refusal(failure(InvalidRequest(f"the body is over {BODY_MAX_BYTES} bytes")))
        except web.HTTPException as error:
            if error.status < 400:
                raise
            return _not_served(request, error)
        except Exception as error:  # nothing is a 500
            return refusal(failure(error))

    return middleware


def _not_served(request: web.Request, error: web.HTTPException) -> web.Response:
    """aiohttp's own no, such as 404, in our form."""
    body = InvalidRequest(f"{request.method} {plain(request.path, 64)}: {error.reason}").body()
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
    return answer(body, headers, status=error.status)


FIXED_HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Server": "scan-login",  # hides the versions of the libraries
}
"""Headers of every response."""


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(FIXED_HEADERS)


def private(body: Wire, status: int = 200) -> web.Response:
    """An answer for one caller that nobody may keep."""
    return answer(body, {"Cache-Control": "no-store", "Pragma": "no-cache"}, status=status)
