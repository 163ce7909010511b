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

from broker.breaker import PAUSE, Breaker
from broker.metrics import WECHAT
from broker.providers.wechat.calls import CALLS, Answer, Call, Failed
from broker.providers.wechat.errcodes import LEVELS, PERSONS, Kind, meaning

log = structlog.get_logger()

T = TypeVar("T")
Fields = Mapping[str, str | int | bool]

CONNECT_WITHIN = 1.5
"""Seconds for TCP and TLS."""

ANSWER_WITHIN = 2.5
"""Seconds for one request, connecting included.  WeChat draws a code in well under one."""

REPEATING = stamina.AsyncRetryingCaller(
    attempts=3, timeout=4.0, wait_initial=0.1, wait_max=1.0, wait_jitter=0.2
)
"""At most three times, and none begins later than 4 s after the first: whoever waits has
a screen before them."""

ANSWER_MAX_BYTES = 180 * 1024
"""Of any answer.  As a data URL a third longer, a picture then fits into the 256 KB that a
browser may leave unread."""

HIDDEN = ("access_token", "js_code", "scene", "secret")
"""Fields whose values are cut out of what WeChat says, should it repeat them."""

RID = re.compile(r"rid: ?([0-9a-f-]{8,64})")

# Each request that fails is logged and counted here; stamina would do so again.
set_on_retry_hooks([])


class Trouble(Exception):
    """A request that came to nothing.  outcome: see `Failed`.  kind: who can cure it."""

    def __init__(self, api: str, outcome: str, said: str) -> None:
        self.outcome = outcome
        self.kind: Kind
        self.kind, self.cure = meaning(api, outcome)
        super().__init__(f"{api} came to {outcome} ({said}): {self.cure}")


class Api:
    """url: where WeChat's API is.  appid: whose the requests are, for the log."""

    def __init__(self, url: str, appid: str) -> None:
        self._url = url.rstrip("/")
        self._appid = appid
        self._breakers = {call.name: Breaker() for call in CALLS}

    async def open(self) -> None:
        self._http = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=ANSWER_WITHIN, sock_connect=CONNECT_WITHIN),
            headers={"Accept-Encoding": "identity"},
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        await self._http.close()

    async def ask(self, call: Call[T], params: Fields, body: Fields | None = None) -> T:
        """What the call gives; raises Trouble."""
        return await REPEATING(partial(_may_repeat, call), self._ask, call, params, body)

    async def _ask(self, call: Call[T], params: Fields, body: Fields | None) -> T:
        breaker = self._breakers[call.name]
        if not breaker.allows_request():
            WECHAT.labels(call.name, "paused").inc()
            raise Trouble(call.name, "paused", f"for {PAUSE:.0f} seconds")
        try:
            given = call.read(await self._answer(call, params, body))
        except Failed as failed:
            said = _plain(failed.said, params, body or {})
            trouble = Trouble(call.name, failed.outcome, said)
            self._note(call, trouble, said)
            raise trouble from None
        WECHAT.labels(call.name, "0").inc()
        self._note_answer(call)
        return given

    def _note(self, call: Call[T], trouble: Trouble, said: str) -> None:
        WECHAT.labels(call.name, trouble.outcome).inc()
        rid = RID.search(said)
        log.log(
            LEVELS.get(trouble.kind, logging.WARNING),
            "wechat refuses",
            api=call.name,
            errcode=trouble.outcome,
            rid=rid[1] if rid else None,
            appid=self._appid,
            said=said,
            cure=trouble.cure,
        )
        breaker = self._breakers[call.name]
        if trouble.kind in PERSONS:
            self._note_answer(call)
        # A token that ended early is refused to all at once, and the next one works.
        elif trouble.kind is not Kind.TOKEN and breaker.record_failure():
            log.error(
                "circuit breaker opened",
                target="wechat",
                api=call.name,
                appid=self._appid,
                retry_in=PAUSE,
            )

    def _note_answer(self, call: Call[T]) -> None:
        """Count an answer as a success of WeChat's, also where it refuses a person."""
        if self._breakers[call.name].record_success():
            log.warning("circuit breaker closed", target="wechat", api=call.name, appid=self._appid)

    async def _answer(self, call: Call[T], params: Fields, body: Fields | None) -> Answer:
        """Whatever comes, whole; raises Failed where nothing does."""
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
            raise Failed("unreachable", type(error).__name__) from None
        except TimeoutError:
            raise Failed("timeout", f"after {ANSWER_WITHIN} seconds") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Failed("unreadable", type(error).__name__) from None


async def _whole(response: aiohttp.ClientResponse) -> Answer:
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > ANSWER_MAX_BYTES:
            raise Failed("too-large", f"over {ANSWER_MAX_BYTES // 1024} KB")
    answer = Answer(response.content_type, bytes(content))
    if response.status != 200:  # WeChat's is always 200
        raise Failed("unreadable", f"status {response.status}: {answer}")
    return answer


def _may_repeat(call: Call[T], error: Exception) -> bool:
    return isinstance(error, Trouble) and error.outcome in call.repeats


def _plain(said: str, *requests: Fields) -> str:
    """WeChat's words for the log: one short line, without what we keep to ourselves."""
    for fields in requests:
        for name in HIDDEN:
            said = said.replace(str(fields.get(name) or "\0"), "[hidden]")
    return "".join(letter for letter in said[:300] if letter.isprintable())
