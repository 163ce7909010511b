"""Asks WeChat: time limits, repeats where they are safe, a breaker for each call, a line
in the log and a count for whatever goes wrong.

The secret and the js_code travel in URLs, because WeChat wants them there, and aiohttp's
errors name URLs: none of them leaves this file.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from functools import partial
from typing import TypeVar

import aiohttp
import stamina
import structlog
from stamina.instrumentation import set_on_retry_hooks

from broker.infrastructure.observability.metrics import Counter
from broker.infrastructure.outbound.circuit_breaker import RESET_TIMEOUT, CircuitBreaker
from broker.providers.wechat.endpoints import (
    ENDPOINTS,
    RequestFailed,
    WeChatEndpoint,
    WeChatResponse,
)
from broker.providers.wechat.errcodes import LOG_LEVELS, USER_KINDS, ErrorKind, lookup_error

T = TypeVar("T")

log = structlog.get_logger()

Fields = Mapping[str, str | int | bool]

CONNECT_TIMEOUT = 1.5
"""Seconds for TCP and TLS."""

RESPONSE_TIMEOUT = 2.5
"""Seconds for one request, connecting included.  WeChat draws a code in well under one."""

RETRYING = stamina.AsyncRetryingCaller(
    attempts=3, timeout=4.0, wait_initial=0.1, wait_max=1.0, wait_jitter=0.2
)
"""At most three times, and none begins later than 4 s after the first: whoever waits has
a screen before them."""

RESPONSE_MAX_BYTES = 180 * 1024
"""Of any answer.  As a data URL a third longer, a picture then fits into the 256 KB that a
browser may leave unread."""

HIDDEN_FIELDS = ("access_token", "js_code", "scene", "secret")
"""Fields whose values are cut out of what WeChat says, should it repeat them."""

RID_PATTERN = re.compile(r"rid: ?([0-9a-f-]{8,64})")

# Each request that fails is logged and counted here; stamina would do so again.
set_on_retry_hooks([])


class WeChatError(Exception):
    """A request that came to nothing.  outcome: see `RequestFailed`.  kind: who can cure it."""

    def __init__(self, api: str, outcome: str, said: str) -> None:
        self.outcome = outcome
        self.kind: ErrorKind
        self.kind, self.cure = lookup_error(api, outcome)
        super().__init__(f"{api} came to {outcome} ({said}): {self.cure}")


class WeChatClient:
    """url: where WeChat's API is.  appid: whose the requests are, for the log."""

    def __init__(self, url: str, appid: str) -> None:
        self._url = url.rstrip("/")
        self._appid = appid
        self._breakers = {call.name: CircuitBreaker() for call in ENDPOINTS}

    async def open(self) -> None:
        self._http = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=RESPONSE_TIMEOUT, sock_connect=CONNECT_TIMEOUT),
            headers={"Accept-Encoding": "identity"},
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        await self._http.close()

    async def call(self, call: WeChatEndpoint[T], params: Fields, body: Fields | None = None) -> T:
        """What the call gives; raises WeChatError."""
        return await RETRYING(partial(_may_repeat, call), self._ask, call, params, body)

    async def _ask(self, call: WeChatEndpoint[T], params: Fields, body: Fields | None) -> T:
        breaker = self._breakers[call.name]
        if not breaker.allows_request():
            WECHAT_REQUESTS.labels(call.name, "paused").inc()
            raise WeChatError(call.name, "paused", f"for {RESET_TIMEOUT:.0f} seconds")
        try:
            given = call.read(await self._answer(call, params, body))
        except RequestFailed as failed:
            said = _plain(failed.said, params, body or {})
            trouble = WeChatError(call.name, failed.outcome, said)
            self._note(call, trouble, said)
            raise trouble from None
        WECHAT_REQUESTS.labels(call.name, "0").inc()
        self._note_answer(call)
        return given

    def _note(self, call: WeChatEndpoint[T], trouble: WeChatError, said: str) -> None:
        WECHAT_REQUESTS.labels(call.name, trouble.outcome).inc()
        rid = RID_PATTERN.search(said)
        log.log(
            LOG_LEVELS.get(trouble.kind, logging.WARNING),
            "wechat refuses",
            api=call.name,
            errcode=trouble.outcome,
            rid=rid[1] if rid else None,
            appid=self._appid,
            said=said,
            cure=trouble.cure,
        )
        breaker = self._breakers[call.name]
        if trouble.kind in USER_KINDS:
            self._note_answer(call)
        # A token that ended early is refused to all at once, and the next one works.
        elif trouble.kind is not ErrorKind.TOKEN and breaker.record_failure():
            log.error(
                "circuit breaker opened",
                target="wechat",
                api=call.name,
                appid=self._appid,
                retry_in=RESET_TIMEOUT,
            )

    def _note_answer(self, call: WeChatEndpoint[T]) -> None:
        """Count an answer as a success of WeChat's, also where it refuses a person."""
        if self._breakers[call.name].record_success():
            log.warning("circuit breaker closed", target="wechat", api=call.name, appid=self._appid)

    async def _answer(
        self, call: WeChatEndpoint[T], params: Fields, body: Fields | None
    ) -> WeChatResponse:
        """Whatever comes, whole; raises RequestFailed where nothing does."""
        try:
            async with self._http.request(
                call.method,
                f"{self._url}{call.path}",
                params={name: str(value) for name, value in params.items()},
                json=body,
                allow_redirects=False,  # they would carry the secret elsewhere
            ) as response:
                return await _whole(response)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise RequestFailed("unreachable", type(error).__name__) from None
        except TimeoutError:
            raise RequestFailed("timeout", f"after {RESPONSE_TIMEOUT} seconds") from None
        except (aiohttp.ClientError, OSError) as error:
            raise RequestFailed("unreadable", type(error).__name__) from None


async def _whole(response: aiohttp.ClientResponse) -> WeChatResponse:
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > RESPONSE_MAX_BYTES:
            raise RequestFailed("too-large", f"over {RESPONSE_MAX_BYTES // 1024} KB")
    answer = WeChatResponse(response.content_type, bytes(content))
    if response.status != 200:  # WeChat's is always 200
        raise RequestFailed("unreadable", f"status {response.status}: {answer}")
    return answer


def _may_repeat(call: WeChatEndpoint[T], error: Exception) -> bool:
    return isinstance(error, WeChatError) and error.outcome in call.repeats


def _plain(said: str, *requests: Fields) -> str:
    """WeChat's words for the log: one short line, without what we keep to ourselves."""
    for fields in requests:
        for name in HIDDEN_FIELDS:
            said = said.replace(str(fields.get(name) or "\0"), "[hidden]")
    return "".join(letter for letter in said[:300] if letter.isprintable())


WECHAT_REQUESTS = Counter("scanlogin_wechat_requests", "Requests to WeChat", ["api", "errcode"])
