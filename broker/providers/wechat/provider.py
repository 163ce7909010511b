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

from broker.errors import BrokerError
from broker.identity.errors import (
    InvalidProof,
    ProviderBlockedUser,
    ProviderRateLimited,
    ProviderUnavailable,
)
from broker.identity.model import Identity
from broker.identity.ports import CodePicture, IdentityProof, UserDataVerifier
from broker.providers.wechat.access_token import AccessTokenCache
from broker.providers.wechat.client import WECHAT_REQUESTS, Fields, WeChatClient, WeChatError
from broker.providers.wechat.endpoints import (
    GETWXACODEUNLIMIT,
    JSCODE2SESSION,
    STABLE_TOKEN,
    FetchedToken,
)
from broker.providers.wechat.errcodes import RETRY_AFTER, TRANSIENT_KINDS, ErrorKind
from broker.providers.wechat.user_data import WeChatUserData

TOTAL_TIMEOUT = 6.0
"""Seconds for a code or a proof, whatever has to be asked for first.  The widget takes a
connection for dead after 8."""

BURST_WINDOW = 5.0
"""Seconds' worth of codes that may be drawn at once after a quiet time: with the 60 s that
follow still fewer than WeChat's 5 000 a minute."""

JS_CODE_PATTERN = re.compile(r"[!-~]{1,256}")
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
        self.user_data: UserDataVerifier | None = WeChatUserData(appid)
        self._look: Fields = {
            "page": page,
            "env_version": env_version,
            "check_path": check_path,
            "width": width,
        }
        self._api = WeChatClient(api_url, appid)
        self._token = AccessTokenCache(self._fetch_token)
        self._limiter = AsyncLimiter(max(1.0, codes_per_minute * BURST_WINDOW / 60), BURST_WINDOW)

    async def open(self) -> None:
        """Begin to fetch a token as well: a wrong secret is in the log from the start."""
        await self._api.open()
        self._token.refresh()

    async def close(self) -> None:
        await self._token.close()
        await self._api.close()

    async def draw(self, scene: str) -> CodePicture:
        try:
            async with asyncio.timeout(TOTAL_TIMEOUT):
                await self._limit()
                return await self._draw(scene)
        except (WeChatError, TimeoutError) as error:
            raise _to_broker_error(error) from None

    async def identify(self, js_code: str) -> IdentityProof:
        if not JS_CODE_PATTERN.fullmatch(js_code):
            raise _invalid_proof()
        asked = {**self._proof, "js_code": js_code, "grant_type": "authorization_code"}
        try:
            async with asyncio.timeout(TOTAL_TIMEOUT):
                person = await self._api.call(JSCODE2SESSION, asked)
        except (WeChatError, TimeoutError) as error:
            raise _to_broker_error(error) from None
        identity = Identity(self.name, person.openid, person.unionid, self._proof["appid"])
        return IdentityProof(identity, person.session_key)

    async def _draw(self, scene: str) -> CodePicture:
        body = {**self._look, "scene": scene}
        token = await self._token.get()
        try:
            return await self._api.call(GETWXACODEUNLIMIT, {"access_token": token}, body)
        except WeChatError as trouble:
            if trouble.kind is not ErrorKind.TOKEN:
                raise
            # The same one may come back: a token that is just out is not known everywhere yet.
            latest = await self._token.replace_stale(token)
        return await self._api.call(GETWXACODEUNLIMIT, {"access_token": latest}, body)

    async def _limit(self) -> None:
        """Count a code; raises WeChatError rather than wait where there have been too many."""
        if not self._limiter.has_capacity():
            WECHAT_REQUESTS.labels(GETWXACODEUNLIMIT.name, "limited").inc()
            raise WeChatError(GETWXACODEUNLIMIT.name, "limited", "not asked")
        await self._limiter.acquire()

    async def _fetch_token(self) -> FetchedToken:
        body = {**self._proof, "grant_type": "client_credential"}
        return await self._api.call(STABLE_TOKEN, {}, body)


def _to_broker_error(error: WeChatError | TimeoutError) -> BrokerError:
    """The failure as browsers and phones hear it."""
    if isinstance(error, TimeoutError):
        return ProviderUnavailable(
            f"no answer of WeChat's within {TOTAL_TIMEOUT} seconds", RETRY_AFTER[ErrorKind.TIME]
        )
    if error.kind is ErrorKind.PHONE:
        return _invalid_proof()
    if error.kind is ErrorKind.BLOCKED:
        return ProviderBlockedUser()
    if error.kind is ErrorKind.TOO_OFTEN:
        return ProviderRateLimited(RETRY_AFTER[error.kind])
    return ProviderUnavailable(
        str(error), RETRY_AFTER[error.kind], retryable=error.kind in TRANSIENT_KINDS
    )


def _invalid_proof() -> InvalidProof:
    return InvalidProof("the js_code is wrong, used or older than 5 minutes: call wx.login again")
