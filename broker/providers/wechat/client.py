"""Client for WeChat's API: timeouts, safe retries, and a circuit breaker for each endpoint.

Each failure is logged and counted. WeChat requires the secret and the js_code in URLs, and
aiohttp's errors contain URLs, so these errors never leave this module.
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
from broker.infrastructure.outbound.http import HTTPClient, HTTPResponse, ResponseTooLarge
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
"""Seconds for one request, including the connection. WeChat draws a code in less than 1 s."""

RETRYING = stamina.AsyncRetryingCaller(
    attempts=3, timeout=4.0, wait_initial=0.1, wait_max=1.0, wait_jitter=0.2
)
"""At most three attempts. None starts later than 4 s after the first, because a user waits."""

RESPONSE_MAX_BYTES = 180 * 1024
"""A picture is a third longer as a data URL, and then fits into the 256 KB that a browser may
leave unread."""

HIDDEN_FIELDS = ("access_token", "code", "js_code", "scene", "secret")
"""Request fields whose values are removed from WeChat's messages."""

RID_PATTERN = re.compile(r"rid: ?([0-9a-f-]{8,64})")

# This module logs and counts each failed attempt. stamina would log it as well.
set_on_retry_hooks([])


class WeChatError(Exception):
    """A failed request.

    outcome: see `RequestFailed`.
    kind: what ends the failure.
    advice: the cause, and what the operator can do.
    """

    def __init__(self, api: str, outcome: str, message: str) -> None:
        self.outcome = outcome
        self.kind: ErrorKind
        self.kind, self.advice = lookup_error(api, outcome)
        super().__init__(f"{api} failed with {outcome} ({message}): {self.advice}")


class WeChatClient:
    """Sends requests to WeChat for one mini program.

    url: of WeChat's API.
    appid: for the log.
    """

    def __init__(self, url: str, appid: str) -> None:
        self._url = url.rstrip("/")
        self._appid = appid
        self._breakers = {endpoint.name: CircuitBreaker() for endpoint in ENDPOINTS}

    async def open(self) -> None:
        self._http = HTTPClient(
            max_bytes=RESPONSE_MAX_BYTES,
            timeout=aiohttp.ClientTimeout(total=RESPONSE_TIMEOUT, sock_connect=CONNECT_TIMEOUT),
        )

    async def close(self) -> None:
        await self._http.close()

    async def call(
        self, endpoint: WeChatEndpoint[T], params: Fields, body: Fields | None = None
    ) -> T:
        """Return the parsed result. Raises WeChatError."""
        return await RETRYING(
            partial(_is_retryable, endpoint), self._attempt, endpoint, params, body
        )

    async def _attempt(self, endpoint: WeChatEndpoint[T], params: Fields, body: Fields | None) -> T:
        if not self._breakers[endpoint.name].allows_request():
            WECHAT_REQUESTS.labels(endpoint.name, "paused").inc()
            raise WeChatError(endpoint.name, "paused", f"for {RESET_TIMEOUT:.0f} seconds")
        try:
            result = endpoint.parse(await self._send(endpoint, params, body))
        except RequestFailed as failed:
            message = _sanitize(failed.message, params, body or {})
            error = WeChatError(endpoint.name, failed.outcome, message)
            self._record_failure(endpoint, error, message)
            raise error from None
        WECHAT_REQUESTS.labels(endpoint.name, "0").inc()
        self._record_answer(endpoint)
        return result

    def _record_failure(
        self, endpoint: WeChatEndpoint[T], error: WeChatError, message: str
    ) -> None:
        WECHAT_REQUESTS.labels(endpoint.name, error.outcome).inc()
        rid = RID_PATTERN.search(message)
        log.log(
            LOG_LEVELS.get(error.kind, logging.WARNING),
            "wechat request failed",
            api=endpoint.name,
            errcode=error.outcome,
            rid=rid[1] if rid else None,
            appid=self._appid,
            message=message,
            advice=error.advice,
        )
        if error.kind in USER_KINDS:
            self._record_answer(endpoint)
        # A token that ended early is refused in all requests at once. The next one works.
        elif error.kind is not ErrorKind.TOKEN and self._breakers[endpoint.name].record_failure():
            log.error(
                "circuit breaker opened",
                target="wechat",
                api=endpoint.name,
                appid=self._appid,
                retry_in=RESET_TIMEOUT,
            )

    def _record_answer(self, endpoint: WeChatEndpoint[T]) -> None:
        """Count a success. An answer that rejects one user counts as well."""
        if self._breakers[endpoint.name].record_success():
            log.warning(
                "circuit breaker closed", target="wechat", api=endpoint.name, appid=self._appid
            )

    async def _send(
        self, endpoint: WeChatEndpoint[T], params: Fields, body: Fields | None
    ) -> WeChatResponse:
        """Return the response. Raises RequestFailed if there is none."""
        try:
            response = await self._http.request(
                endpoint.method,
                f"{self._url}{endpoint.path}",
                params={name: str(value) for name, value in params.items()},
                json=body,
            )
        except ResponseTooLarge as error:
            raise RequestFailed("too-large", str(error)) from None
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise RequestFailed("unreachable", type(error).__name__) from None
        except TimeoutError:
            raise RequestFailed("timeout", f"after {RESPONSE_TIMEOUT} seconds") from None
        except (aiohttp.ClientError, OSError) as error:
            raise RequestFailed("unreadable", type(error).__name__) from None
        return _check_status(response)


def _check_status(response: HTTPResponse) -> WeChatResponse:
    """WeChat's status is always 200, also for failures."""
    received = WeChatResponse(response.media_type, response.content)
    if response.status != 200:
        raise RequestFailed("unreadable", f"status {response.status}: {received}")
    return received


def _is_retryable(endpoint: WeChatEndpoint[T], error: Exception) -> bool:
    return isinstance(error, WeChatError) and error.outcome in endpoint.retry_on


def _sanitize(message: str, *requests: Fields) -> str:
    """Return WeChat's message as one short line without the secrets of the request."""
    for fields in requests:
        for name in HIDDEN_FIELDS:
            message = message.replace(str(fields.get(name) or "\0"), "[hidden]")
    return "".join(character for character in message[:300] if character.isprintable())


WECHAT_REQUESTS = Counter("scanlogin_wechat_requests", "Requests to WeChat", ["api", "errcode"])
