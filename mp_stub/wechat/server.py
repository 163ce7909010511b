"""The HTTP paths of WeChat, and the paths that control the stub.

POST /cgi-bin/stable_token        {grant_type, appid, secret, force_refresh?}
POST /wxa/getwxacodeunlimit       ?access_token   {scene, page?, check_path?, env_version?, width?}
GET  /sns/jscode2session          ?appid&secret&js_code&grant_type
POST /wxa/business/getuserphonenumber  ?access_token   {code, openid?}

POST /pretend/login               {person, appid?} → {code}: wx.login on the phone of this person
POST /pretend/phone-number        {person, number, country?, appid?} → {code}: a tap on the button
                                  for the phone number
PUT  /pretend/faults/<api>        {fault, times?}: see faults.py; <api> is the last path segment
DELETE /pretend/faults
POST /pretend/revoke              {appid}: revoke all its tokens
GET  /pretend/calls               the number of calls of each API
"""

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from mp_stub.wechat.codes import code_link, draw_code
from mp_stub.wechat.faults import Faults
from mp_stub.wechat.platform import Fields, Platform, WeChatRefusal

BODY_MAX_BYTES = 64 * 1024
JSON = "application/json; encoding=utf-8"
"""The content type of WeChat's JSON. `jscode2session` sends text/plain."""

APIHandler = Callable[["WeChatStub", web.Request], Awaitable[web.Response]]
ControlHandler = Callable[["WeChatStub", web.Request], Awaitable[Fields]]


class WeChatStub:
    """The stub as an HTTP application.

    link: the URL that the codes open, without a query.
    on_draw: called with the link in each code that is drawn.
    platform, faults: the state, which a test can read and change.
    calls: the number of calls of each API.
    """

    def __init__(
        self, platform: Platform, *, link: str, on_draw: Callable[[str], None] | None = None
    ) -> None:
        self.platform = platform
        self.faults = Faults()
        self.calls: Counter[str] = Counter()
        self._link = link
        self._on_draw = on_draw

    def application(self) -> web.Application:
        application = web.Application(client_max_size=BODY_MAX_BYTES)
        application.on_shutdown.append(self._stop)
        for path, (method, _) in APIS.items():
            application.router.add_route(method, path, self._call)
        for (method, path), _ in CONTROL_ROUTES.items():
            application.router.add_route(method, path, self._control)
        return application

    async def _stop(self, application: web.Application) -> None:
        self.faults.stopped.set()

    async def _call(self, request: web.Request) -> web.StreamResponse:
        api = request.path.rpartition("/")[2]
        self.calls[api] += 1
        try:
            return await self.faults.answer(
                api, request, lambda: APIS[request.path][1](self, request)
            )
        except WeChatRefusal as refusal:
            return _json({"errcode": refusal.errcode, "errmsg": refusal.errmsg})

    async def _stable_token(self, request: web.Request) -> web.Response:
        return _json(self.platform.stable_token(await _body(request, 47001)))

    async def _getwxacodeunlimit(self, request: web.Request) -> web.Response:
        body = await _body(request, 40169)
        code = self.platform.code(request.query.get("access_token"), body)
        if self._on_draw is not None:
            self._on_draw(code_link(code, self._link))
        return web.Response(body=draw_code(code, self._link), content_type="image/png")

    async def _jscode2session(self, request: web.Request) -> web.Response:
        answer = _json(self.platform.session(dict(request.query)))
        answer.headers["Content-Type"] = "text/plain"
        return answer

    async def _getuserphonenumber(self, request: web.Request) -> web.Response:
        body = await _body(request, 47001)
        return _json(self.platform.phone_number(request.query.get("access_token"), body))

    async def _control(self, request: web.Request) -> web.Response:
        assert request.match_info.route.resource is not None
        handler = CONTROL_ROUTES[request.method, request.match_info.route.resource.canonical]
        try:
            return _json(await handler(self, request))
        except (WeChatRefusal, KeyError, TypeError, ValueError) as error:
            return _json({"error": "invalid_request", "error_description": str(error)}, 400)

    async def _login(self, request: web.Request) -> Fields:
        body = await _body(request, 47001)
        appid = body.get("appid")
        return {"code": self.platform.login(str(body["person"]), str(appid) if appid else None)}

    async def _tap_phone_number(self, request: web.Request) -> Fields:
        body = await _body(request, 47001)
        code = self.platform.tap_phone_number(
            str(body["person"]),
            str(body["number"]),
            str(body.get("country", "86")),
            str(body["appid"]) if body.get("appid") else None,
        )
        return {"code": code}

    async def _set_fault(self, request: web.Request) -> Fields:
        body = await _body(request, 47001)
        times = body.get("times")
        self.faults.set(
            request.match_info["api"],
            str(body["fault"]),
            times if isinstance(times, int) else None,
        )
        return {}

    async def _clear_faults(self, request: web.Request) -> Fields:
        self.faults.clear()
        return {}

    async def _revoke(self, request: web.Request) -> Fields:
        self.platform.revoke(str((await _body(request, 47001))["appid"]))
        return {}

    async def _count(self, request: web.Request) -> Fields:
        return self.calls


APIS: Mapping[str, tuple[str, APIHandler]] = {
    "/cgi-bin/stable_token": ("POST", WeChatStub._stable_token),
    "/wxa/getwxacodeunlimit": ("POST", WeChatStub._getwxacodeunlimit),
    "/sns/jscode2session": ("GET", WeChatStub._jscode2session),
    "/wxa/business/getuserphonenumber": ("POST", WeChatStub._getuserphonenumber),
}

CONTROL_ROUTES: Mapping[tuple[str, str], ControlHandler] = {
    ("POST", "/pretend/login"): WeChatStub._login,
    ("POST", "/pretend/phone-number"): WeChatStub._tap_phone_number,
    ("PUT", "/pretend/faults/{api}"): WeChatStub._set_fault,
    ("DELETE", "/pretend/faults"): WeChatStub._clear_faults,
    ("POST", "/pretend/revoke"): WeChatStub._revoke,
    ("GET", "/pretend/calls"): WeChatStub._count,
}


async def _body(request: web.Request, errcode: int) -> Fields:
    """The body as a JSON object. Raises WeChatRefusal with `errcode` for any other body."""
    try:
        body = json.loads(await request.read())
    except (ValueError, RecursionError):
        raise WeChatRefusal(errcode) from None
    if not isinstance(body, dict):
        raise WeChatRefusal(errcode)
    return body


def _json(fields: Fields, status: int = 200) -> web.Response:
    body = json.dumps(fields, separators=(",", ":")).encode()
    return web.Response(status=status, body=body, headers={"Content-Type": JSON})
