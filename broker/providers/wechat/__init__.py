"""WeChat: mini program codes by getwxacodeunlimit, people by jscode2session.

    api.py        asks WeChat: time limits, repeats, breaker, log, count
    calls.py      the three calls: path, when to repeat, how to read
    token.py      the access token
    errcodes.py   what each errcode means, and its cure
    userinfo.py   what a mini program signs and encrypts

One provider is one mini program.  What browsers and phones hear of a failure is ours
alone; WeChat's errcode and rid are the operator's, in the log and the metrics.
"""

from __future__ import annotations

import asyncio
import re

from aiolimiter import AsyncLimiter

from broker.errors import (
    BrokerError,
    InvalidSession,
    PersonBlocked,
    PersonTooOften,
    ProviderFails,
)
from broker.login import Identity
from broker.metrics import WECHAT
from broker.providers import Picture, Proof, Userinfo
from broker.providers.wechat.api import Api, Fields, Trouble
from broker.providers.wechat.calls import (
    GETWXACODEUNLIMIT,
    JSCODE2SESSION,
    STABLE_TOKEN,
    Fetched,
)
from broker.providers.wechat.errcodes import PASSING, RETRY_AFTER, Kind
from broker.providers.wechat.token import AccessToken
from broker.providers.wechat.userinfo import WeChatUserinfo

WITHIN = 6.0
"""Seconds for a code or a proof, whatever has to be asked for first.  The widget takes a
connection for dead after 8."""

BURST = 5.0
"""Seconds' worth of codes that may be drawn at once after a quiet time: with the 60 s that
follow still fewer than WeChat's 5 000 a minute."""

JS_CODE = re.compile(r"[!-~]{1,256}")
"""WeChat's have 32 letters and digits; nothing that could not be one is sent."""


class WeChatProvider:
    """page: without a slash before it, at most 60 000 different ones.

    env_version: release, trial or develop.  check_path: whether WeChat refuses a page
    that the released mini program does not have.  width: in pixels, 280 to 1280.
    codes_per_minute: this process's share of WeChat's 5 000 for one mini program.
    """

    name = "wechat"
    scene_max = 32

    def __init__(
        self,
        *,
        appid: str,
        secret: str,
        api_url: str,
        page: str,
        env_version: str,
        check_path: bool,
        width: int,
        codes_per_minute: int,
    ) -> None:
        self._proof = {"appid": appid, "secret": secret}
        self.userinfo: Userinfo | None = WeChatUserinfo(appid)
        self._look: Fields = {
            "page": page,
            "env_version": env_version,
            "check_path": check_path,
            "width": width,
        }
        self._api = Api(api_url, appid)
        self._token = AccessToken(self._fetch_token)
        self._limiter = AsyncLimiter(max(1.0, codes_per_minute * BURST / 60), BURST)

    async def open(self) -> None:
        """Begin to fetch a token as well: a wrong secret is in the log from the start."""
        await self._api.open()
        self._token.renew()

    async def close(self) -> None:
        await self._token.close()
        await self._api.close()

    async def draw(self, scene: str) -> Picture:
        try:
            async with asyncio.timeout(WITHIN):
                await self._limit()
                return await self._draw(scene)
        except (Trouble, TimeoutError) as error:
            raise _ours(error) from None

    async def identify(self, js_code: str) -> Proof:
        if not JS_CODE.fullmatch(js_code):
            raise _unproved()
        asked = {**self._proof, "js_code": js_code, "grant_type": "authorization_code"}
        try:
            async with asyncio.timeout(WITHIN):
                person = await self._api.ask(JSCODE2SESSION, asked)
        except (Trouble, TimeoutError) as error:
            raise _ours(error) from None
        identity = Identity(self.name, person.openid, person.unionid, self._proof["appid"])
        return Proof(identity, person.session_key)

    async def _draw(self, scene: str) -> Picture:
        body = {**self._look, "scene": scene}
        token = await self._token.get()
        try:
            return await self._api.ask(GETWXACODEUNLIMIT, {"access_token": token}, body)
        except Trouble as trouble:
            if trouble.kind is not Kind.TOKEN:
                raise
            # The same one may come back: a token that is just out is not known everywhere yet.
            latest = await self._token.after(token)
        return await self._api.ask(GETWXACODEUNLIMIT, {"access_token": latest}, body)

    async def _limit(self) -> None:
        """Count a code; raises Trouble rather than wait where there have been too many."""
        if not self._limiter.has_capacity():
            WECHAT.labels(GETWXACODEUNLIMIT.name, "limited").inc()
            raise Trouble(GETWXACODEUNLIMIT.name, "limited", "not asked")
        await self._limiter.acquire()

    async def _fetch_token(self) -> Fetched:
        body = {**self._proof, "grant_type": "client_credential"}
        return await self._api.ask(STABLE_TOKEN, {}, body)


def _ours(error: Trouble | TimeoutError) -> BrokerError:
    """The failure as browsers and phones hear it."""
    if isinstance(error, TimeoutError):
        return ProviderFails(
            f"no answer of WeChat's within {WITHIN} seconds", RETRY_AFTER[Kind.TIME]
        )
    if error.kind is Kind.PHONE:
        return _unproved()
    if error.kind is Kind.BLOCKED:
        return PersonBlocked()
    if error.kind is Kind.TOO_OFTEN:
        return PersonTooOften(RETRY_AFTER[error.kind])
    return ProviderFails(str(error), RETRY_AFTER[error.kind], passes=error.kind in PASSING)


def _unproved() -> InvalidSession:
    return InvalidSession("the js_code is wrong, used or older than 5 minutes: call wx.login again")
