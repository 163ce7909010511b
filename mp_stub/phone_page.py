"""The phone page and its server.

    page ──POST /api/scan, confirm, …──▶ this server ──Phone──▶ broker

The page's script calls this server only, so the broker's phone API needs no
CORS. The page is for development: each visitor can act as any person. It works
only with a broker that uses the provider `pretend`, or with a WeChat stub.

The server refuses requests that a page of another site can make a browser send:
those with another Origin, or with a body that is not JSON. Each error is
`{"error", "error_description"}`, as at the broker.
"""

import json
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web

from mp_stub import user_agent
from mp_stub.phone import InvalidInput, Phone, Refused, Unreachable, parse_person, parse_scene
from mp_stub.transport import Answer

log = logging.getLogger(__name__)

BODY_MAX_BYTES = 64 * 1024
PHONES_MAX = 100
FIELD_MAX = 2048  # characters, enough for a link; a scene has 32, a login_id 22

FOLDER = Path(__file__).parent / "pages"
FILES: Mapping[str, tuple[str, str]] = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/phone.css": ("phone.css", "text/css; charset=utf-8"),
    "/phone.js": ("phone.js", "text/javascript; charset=utf-8"),
    "/words.js": ("words.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # the URL of the page contains the scene
    "Cross-Origin-Opener-Policy": "same-origin",
}


class PhonePool:
    """An open Phone for each name.

    The least recently used phone is closed when the pool is full. A phone in use is not closed.

    size: the maximum number of open phones.
    """

    def __init__(self, broker: str, app: str, wechat: str | None, size: int = PHONES_MAX) -> None:
        self._broker = broker
        self._app = app
        self._wechat = wechat
        self._size = size
        self._phones: OrderedDict[str, Phone] = OrderedDict()
        self._in_use: dict[str, int] = {}

    @asynccontextmanager
    async def use(self, name: str) -> AsyncIterator[Phone]:
        """The phone of `name`. Raises Refused if the pool is full and all phones are in use."""
        phone = await self._get_or_open(name)
        self._in_use[name] = self._in_use.get(name, 0) + 1
        try:
            yield phone
        finally:
            self._in_use[name] -= 1
            if not self._in_use[name]:
                del self._in_use[name]

    async def close(self) -> None:
        while self._phones:
            _, phone = self._phones.popitem()
            await phone.__aexit__(None, None, None)

    async def _get_or_open(self, name: str) -> Phone:
        if name not in self._phones:
            await self._evict_idle()
        # Another request may have opened this phone during the eviction.
        if name not in self._phones:
            phone = Phone(broker=self._broker, app=self._app, name=name, wechat=self._wechat)
            self._phones[name] = await phone.__aenter__()
        self._phones.move_to_end(name)
        return self._phones[name]

    async def _evict_idle(self) -> None:
        while len(self._phones) >= self._size:
            idle = next((name for name in self._phones if name not in self._in_use), None)
            if idle is None:
                raise Refused("temporarily_unavailable", "too many phones in use", 503, 1)
            await self._phones.pop(idle).__aexit__(None, None, None)


PHONES: web.AppKey[PhonePool] = web.AppKey("phones", PhonePool)

ActHandler = Callable[[Phone, Answer], Awaitable[Mapping[str, object]]]


async def scan(phone: Phone, fields: Answer) -> Mapping[str, object]:
    """The broker's answer, with the names of the browser and of its system added."""
    seen = await phone.scan(parse_scene(text_field(fields, "scene")))
    agent = user_agent.parse(str(seen["browser"].get("user_agent") or ""))
    return {**seen, "browser": {**seen["browser"], **agent._asdict()}}


async def confirm(phone: Phone, fields: Answer) -> Mapping[str, object]:
    match = text_field(fields, "match") if "match" in fields else None
    return await phone.confirm(text_field(fields, "login_id"), match)


async def deny(phone: Phone, fields: Answer) -> Mapping[str, object]:
    return await phone.deny(text_field(fields, "login_id"))


async def register(phone: Phone, fields: Answer) -> Mapping[str, object]:
    return await phone.register(text_field(fields, "invitation"))


async def report(phone: Phone, fields: Answer) -> Mapping[str, object]:
    return await phone.report(text_field(fields, "login_id"))


async def sign_ins(phone: Phone, fields: Answer) -> Mapping[str, object]:
    """The sign-ins of the person, with the names of the browsers and of their systems added."""
    found = await phone.sign_ins()
    return {"signins": [{**one, **user_agent.parse(one["user_agent"])._asdict()} for one in found]}


async def end(phone: Phone, fields: Answer) -> Mapping[str, object]:
    return await phone.end_sign_in(text_field(fields, "sid"))


async def end_all(phone: Phone, fields: Answer) -> Mapping[str, object]:
    return await phone.end_sign_ins()


ACTS: Mapping[str, ActHandler] = {
    "/api/scan": scan,
    "/api/confirm": confirm,
    "/api/deny": deny,
    "/api/report": report,
    "/api/register": register,
    "/api/signins": sign_ins,
    "/api/end": end,
    "/api/end-all": end_all,
}


def build_phone_page(
    *, broker_url: str, app: str = "default", wechat_url: str | None = None
) -> web.Application:
    """Build the phone page as an application.

    app: the id of the app whose codes the phone scans.
    wechat_url: a WeChat stub that issues the js_codes.
    """
    site = web.Application(client_max_size=BODY_MAX_BYTES, middlewares=[error_middleware])
    site.on_response_prepare.append(add_headers)
    site.cleanup_ctx.append(phone_pool_context(broker_url, app, wechat_url))
    for path in FILES:
        site.router.add_get(path, serve_file, expect_handler=check_expectation)
    for path in ACTS:
        site.router.add_post(path, serve_act, expect_handler=check_expectation)
    return site


def phone_pool_context(
    broker: str, app: str, wechat: str | None
) -> Callable[[web.Application], AsyncIterator[None]]:
    async def open_and_close(site: web.Application) -> AsyncIterator[None]:
        site[PHONES] = PhonePool(broker, app, wechat)
        yield
        await site[PHONES].close()

    return open_and_close


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")


async def serve_file(request: web.Request) -> web.StreamResponse:
    name, kind = FILES[request.path]
    # With "no-cache" the browser revalidates each time and gets 304 for an unchanged file.
    headers = {"Content-Type": kind, "Cache-Control": "no-cache"}
    return web.FileResponse(FOLDER / name, headers=headers)


async def serve_act(request: web.Request) -> web.Response:
    check_sender(request)
    fields = await read_fields(request)
    name = parse_person(text_field(fields, "name"))
    async with request.app[PHONES].use(name) as phone:
        return web.json_response(await ACTS[request.path](phone, fields))


def check_sender(request: web.Request) -> None:
    """Accept only requests of this page's script. Raises Refused.

    A page of another site can make a browser POST, but not with this content type,
    and the browser sends the Origin of that page.
    """
    if request.content_type != "application/json":
        raise Refused("invalid_request", "content type must be application/json", 415)
    if "Content-Encoding" in request.headers:
        raise Refused("invalid_request", "request body must not be compressed", 415)
    origins = request.headers.getall("Origin", [])
    if origins and [origin_host(one) for one in origins] != [request.host.lower()]:
        raise Refused("access_denied", "origin is not allowed", 403)


async def check_expectation(request: web.Request) -> web.Response | None:
    """Answer `Expect: 100-continue`. Refuse other expectations."""
    if request.headers["Expect"].lower() != "100-continue":
        return error_response(Refused("invalid_request", "Expect is not supported", 417))
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the response has not begun
    return None


def origin_host(origin: str) -> str | None:
    """Host and port of an Origin. None for "null" and for an Origin that is not HTTP.

    The scheme is not compared, because a proxy may terminate TLS.
    """
    try:
        parts = urlsplit(origin.lower())
    except ValueError:
        return None
    return parts.netloc if parts.scheme in {"http", "https"} else None


async def read_fields(request: web.Request) -> Answer:
    try:
        fields = json.loads(await request.read())
    except (ValueError, RecursionError, web.RequestPayloadError):
        raise Refused("invalid_request", "request body is not valid JSON", 400) from None
    if not isinstance(fields, dict):
        raise Refused("invalid_request", "request body is not a JSON object", 400)
    return fields


def text_field(fields: Answer, field: str) -> str:
    value = fields.get(field)
    if not isinstance(value, str) or not value.strip():
        raise Refused("invalid_request", f"{field} is missing", 400)
    if len(value) > FIELD_MAX:
        raise Refused("invalid_request", f"{field} is longer than {FIELD_MAX} characters", 400)
    return value


@web.middleware
async def error_middleware(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Turn every error into `{"error", "error_description"}`."""
    try:
        return await handler(request)
    except Refused as refusal:
        return error_response(refusal)
    except Unreachable as cause:
        return error_response(Refused("temporarily_unavailable", str(cause), 503))
    except web.HTTPException as cause:
        return error_response(refused_from_http(cause), cause)
    except InvalidInput as cause:
        return error_response(Refused("invalid_request", str(cause), 400))
    except Exception:
        log.exception("request failed: path=%s", request.path)
        return error_response(
            Refused("temporarily_unavailable", "the phone has a fault, see its log", 503)
        )


def refused_from_http(cause: web.HTTPException) -> Refused:
    if isinstance(cause, web.HTTPRequestEntityTooLarge):
        limit = BODY_MAX_BYTES // 1024
        return Refused("invalid_request", f"request body is larger than {limit} KB", 413)
    return Refused("invalid_request", cause.reason, cause.status)


def error_response(refusal: Refused, cause: web.HTTPException | None = None) -> web.Response:
    body = {"error": refusal.error, "error_description": refusal.description}
    if refusal.register_url is not None:
        body["register_url"] = refusal.register_url
    headers = {"Allow": cause.headers["Allow"]} if cause and "Allow" in cause.headers else {}
    if refusal.retry_after is None:
        return web.json_response(body, status=refusal.status, headers=headers)
    headers["Retry-After"] = str(refusal.retry_after)
    return web.json_response(
        {**body, "retry_after": refusal.retry_after}, status=refusal.status, headers=headers
    )
