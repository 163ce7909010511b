"""The WeChat provider: codes by getwxacodeunlimit, identities by jscode2session,
phone numbers by getuserphonenumber.

    client.py        timeouts, retries, circuit breakers, log and metrics
    endpoints.py     the four endpoints: path, retryable outcomes, parser
    access_token.py  the access token
    errcodes.py      the meaning of each errcode
    user_data.py     data that a mini program signs and encrypts

One provider is one mini program. Browsers and phones get the broker's error words only.
WeChat's errcode and rid are in the log and in the metrics, for the operator.
"""

from __future__ import annotations

import asyncio
import re
from typing import TypeVar

from aiolimiter import AsyncLimiter

from broker.errors import BrokerError
from broker.identity.errors import (
    MISCONFIGURED_RETRY_AFTER,
    InvalidPhoneNumberCode,
    InvalidProof,
    ProviderAnswerMalformed,
    ProviderBlockedUser,
    ProviderRateLimited,
    ProviderUnavailable,
)
from broker.identity.model import Identity, ProviderAccount
from broker.identity.ports import CodePicture, IdentityProof, UserDataVerifier
from broker.infrastructure.settings import Settings
from broker.providers.wechat.access_token import AccessTokenCache
from broker.providers.wechat.client import WECHAT_REQUESTS, Fields, WeChatClient, WeChatError
from broker.providers.wechat.endpoints import (
    GETUSERPHONENUMBER,
    GETWXACODEUNLIMIT,
    JSCODE2SESSION,
    STABLE_TOKEN,
    FetchedToken,
    WeChatEndpoint,
)
from broker.providers.wechat.errcodes import RETRY_AFTER, TRANSIENT_KINDS, ErrorKind
from broker.providers.wechat.settings import APPID_PATTERN, WeChatSettings
from broker.providers.wechat.user_data import WeChatUserData

T = TypeVar("T")

TOTAL_TIMEOUT = 6.0
"""Seconds for a code or a proof, including an access token. The widget considers a connection
dead after 8 s."""

BURST_WINDOW = 5.0
"""A burst may have as many codes as this many seconds allow. With those of the next 60 s they
are still fewer than WeChat's 5 000 a minute."""

CODE_PATTERN = re.compile(r"[!-~]{1,256}")
"""WeChat's codes for phone numbers have 64 hexadecimal digits."""

MALFORMED_OUTCOMES = frozenset({"too-large", "unreadable"})
"""Outcomes of requests that WeChat has answered, but not in its format."""

JS_CODE_PATTERN = re.compile(r"[!-~]{1,256}")
"""WeChat's js_codes have 32 letters and digits. Other strings are not sent to WeChat."""


class WeChatProvider:
    """One mini program.

    page: the page that a code opens, without a leading slash.
    env_version: release, trial or develop.
    check_path: whether WeChat refuses a page that the released mini program does not have.
    width: of a code in pixels, 280 to 1280.
    codes_per_minute: limit of this process. WeChat allows 5 000 for one mini program.
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
        self._credentials = {"appid": appid, "secret": secret}
        self.user_data: UserDataVerifier | None = WeChatUserData(appid)
        self._code_options: Fields = {
            "page": page,
            "env_version": env_version,
            "check_path": check_path,
            "width": width,
        }
        self._client = WeChatClient(api_url, appid)
        self._token = AccessTokenCache(self._fetch_token)
        self._limiter = AsyncLimiter(max(1.0, codes_per_minute * BURST_WINDOW / 60), BURST_WINDOW)

    async def open(self) -> None:
        """Also start to fetch an access token, so that a wrong secret is logged at startup."""
        await self._client.open()
        self._token.refresh()

    async def close(self) -> None:
        await self._token.close()
        await self._client.close()

    def link(self, scene: str) -> str | None:
        return None

    async def draw(self, scene: str) -> CodePicture:
        try:
            async with asyncio.timeout(TOTAL_TIMEOUT):
                await self._count_code()
                return await self._draw(scene)
        except (WeChatError, TimeoutError) as error:
            raise _to_broker_error(error) from None

    async def identify(self, js_code: str) -> IdentityProof:
        if not JS_CODE_PATTERN.fullmatch(js_code):
            raise _invalid_proof()
        params = {**self._credentials, "js_code": js_code, "grant_type": "authorization_code"}
        try:
            async with asyncio.timeout(TOTAL_TIMEOUT):
                user = await self._client.call(JSCODE2SESSION, params)
        except (WeChatError, TimeoutError) as error:
            raise _to_broker_error(error) from None
        identity = Identity(self.name, user.openid, user.unionid, self._credentials["appid"])
        return IdentityProof(identity, user.session_key)

    async def phone_number(self, code: str, identity: Identity) -> str:
        if not CODE_PATTERN.fullmatch(code):
            raise InvalidPhoneNumberCode
        # With the openid, WeChat can refuse the code of another user.
        body = {"code": code, "openid": identity.id}
        try:
            async with asyncio.timeout(TOTAL_TIMEOUT):
                return await self._call_with_token(GETUSERPHONENUMBER, body)
        except (WeChatError, TimeoutError) as error:
            raise _to_broker_error(error) from None

    async def _draw(self, scene: str) -> CodePicture:
        return await self._call_with_token(
            GETWXACODEUNLIMIT, {**self._code_options, "scene": scene}
        )

    async def _call_with_token(self, endpoint: WeChatEndpoint[T], body: Fields) -> T:
        token = await self._token.get()
        try:
            return await self._client.call(endpoint, {"access_token": token}, body)
        except WeChatError as error:
            if error.kind is not ErrorKind.TOKEN:
                raise
            # It may be the same token: a new token takes a moment to reach all WeChat servers.
            latest = await self._token.replace_stale(token)
        return await self._client.call(endpoint, {"access_token": latest}, body)

    async def _count_code(self) -> None:
        """Count a code. Raises WeChatError at the limit instead of waiting."""
        if not self._limiter.has_capacity():
            WECHAT_REQUESTS.labels(GETWXACODEUNLIMIT.name, "limited").inc()
            raise WeChatError(GETWXACODEUNLIMIT.name, "limited", "not sent")
        await self._limiter.acquire()

    async def _fetch_token(self) -> FetchedToken:
        body = {**self._credentials, "grant_type": "client_credential"}
        return await self._client.call(STABLE_TOKEN, {}, body)


def _to_broker_error(error: WeChatError | TimeoutError) -> BrokerError:
    """Return the error that browsers and phones get."""
    if isinstance(error, TimeoutError):
        return ProviderUnavailable(
            f"no answer from WeChat within {TOTAL_TIMEOUT} seconds", RETRY_AFTER[ErrorKind.TIME]
        )
    if error.kind is ErrorKind.PHONE:
        return _invalid_proof()
    if error.kind is ErrorKind.PHONE_NUMBER:
        return InvalidPhoneNumberCode()
    if error.kind is ErrorKind.BLOCKED:
        return ProviderBlockedUser()
    if error.kind is ErrorKind.TOO_OFTEN:
        return ProviderRateLimited(RETRY_AFTER[error.kind])
    raised = ProviderAnswerMalformed if error.outcome in MALFORMED_OUTCOMES else ProviderUnavailable
    return raised(
        str(error),
        RETRY_AFTER[error.kind],
        retryable=error.kind in TRANSIENT_KINDS,
        advice=error.advice,
    )


def _invalid_proof() -> InvalidProof:
    return InvalidProof("the js_code is wrong, used or older than 5 minutes; call wx.login again")


def open_provider(settings: Settings, account: ProviderAccount) -> WeChatProvider:
    """Raises ProviderUnavailable for an account without AppID or AppSecret."""
    if not (re.fullmatch(APPID_PATTERN, account.app_id) and account.secret):
        reason = "has no secret" if account.secret == "" else "is not an AppID"
        raise ProviderUnavailable(
            f"the provider wechat requires an AppID and an AppSecret; {account.app_id!r} {reason}",
            MISCONFIGURED_RETRY_AFTER,
            advice="give the app both, with scan-login app set --provider-app-id and --secret",
        )
    wechat = settings[WeChatSettings]
    return WeChatProvider(
        appid=account.app_id,
        secret=account.secret,
        api_url=wechat.wechat_api_url,
        page=wechat.wechat_page,
        env_version=wechat.wechat_env_version,
        check_path=wechat.wechat_check_path,
        width=wechat.wechat_width,
        codes_per_minute=wechat.wechat_codes_per_minute,
    )
