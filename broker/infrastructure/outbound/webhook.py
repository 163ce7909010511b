"""Requests to URLs of sites: signed webhooks, and other messages that sites receive.

The parts:

    sign         headers of Standard Webhooks
    SiteClient   one POST request with SSRF protection
    Webhook      a URL that answers questions: retry, circuit breaker, outage log, metrics
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Generic, NamedTuple, TypeVar

import aiohttp
import stamina
import standardwebhooks
import structlog
from aiohttp.abc import AbstractResolver
from stamina.instrumentation import set_on_retry_hooks

from broker.infrastructure.codec import decode, encode
from broker.infrastructure.observability.metrics import Counter
from broker.infrastructure.observability.outage import OutageLog
from broker.infrastructure.outbound.circuit_breaker import RESET_TIMEOUT, CircuitBreaker
from broker.infrastructure.outbound.http import HTTPClient, HTTPResponse, ResponseTooLarge
from broker.infrastructure.outbound.ssrf import AddressNotAllowed, create_public_socket

log = structlog.get_logger()

T = TypeVar("T")

RETRYING = stamina.AsyncRetryingCaller(attempts=2, wait_initial=0.1, wait_max=0.2, wait_jitter=0.1)
"""One retry if the connection failed. A question changes nothing at the site."""

RESPONSE_MAX_BYTES = 16 * 1024

# The callers log failures. stamina would log them as well, with the user's ids.
set_on_retry_hooks([])


class SignedRequest(NamedTuple):
    body: bytes
    headers: Mapping[str, str]


class WebhookFailed(Exception):
    """A request without a valid response. Its text is for the operator.

    retryable: whether to retry at once.
    """

    def __init__(self, reason: str, *, retryable: bool = False) -> None:
        super().__init__(reason)
        self.retryable = retryable


class WebhookPaused(WebhookFailed):
    """Nothing was sent: the circuit breaker is open."""


def sign(
    signing_secrets: Sequence[str],
    *,
    type: str,
    data: Mapping[str, object],
    now: float,
    message_id: str = "",
) -> SignedRequest:
    """Return a signed message (Standard Webhooks).

    signing_secrets: `whsec_…`. Each one signs, so that the site can replace its secret.
    now: Unix time in seconds.
    message_id: the same for all attempts of one message; a random one by default.
    """
    time = datetime.fromtimestamp(int(now), UTC)
    body = encode({"type": type, "timestamp": time.isoformat(), "data": data})
    return sign_body(signing_secrets, body, now=now, message_id=message_id)


def sign_body(
    signing_secrets: Sequence[str], body: bytes, *, now: float, message_id: str = ""
) -> SignedRequest:
    """Return a message with this body, signed as by `sign`.  body: in UTF-8."""
    time = datetime.fromtimestamp(int(now), UTC)
    message_id = message_id or f"msg_{secrets.token_urlsafe(16)}"
    signatures = [
        standardwebhooks.Webhook(secret).sign(message_id, time, body.decode())
        for secret in signing_secrets
    ]
    headers = {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now)),
        "webhook-signature": " ".join(signatures),
    }
    return SignedRequest(body, headers)


def read_object(response: HTTPResponse) -> Mapping[str, object]:
    """Return the JSON object of a response. Raises WebhookFailed for any other body."""
    try:
        fields = decode(response.content)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise WebhookFailed(f"status {response.status} without a JSON object")
    return fields


class SiteClient:
    """Sends POST requests to URLs of sites.

    It connects to public addresses only, follows no redirects, and reads at most
    `RESPONSE_MAX_BYTES` bytes of a response.

    allow_private_address: whether a URL may use http, and have an address that is not public.
    tls, resolver: used instead of the system's.
    """

    def __init__(
        self,
        *,
        allow_private_address: bool,
        tls: ssl.SSLContext | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._allow_private_address = allow_private_address
        self._tls = tls
        self._resolver = resolver

    async def open(self) -> None:
        connector = aiohttp.TCPConnector(
            ssl=self._tls or True,
            resolver=self._resolver,
            socket_factory=None if self._allow_private_address else create_public_socket,
        )
        self._http = HTTPClient(
            max_bytes=RESPONSE_MAX_BYTES,
            connector=connector,
            headers={"User-Agent": "scan-login"},
        )

    async def close(self) -> None:
        await self._http.close()

    async def post(self, url: str, request: SignedRequest) -> HTTPResponse:
        """Return the response, whatever its status. Raises WebhookFailed.

        There is no time limit.
        """
        if not (self._allow_private_address or url.startswith("https://")):
            raise WebhookFailed("the URL does not use https")
        try:
            return await self._http.request("POST", url, data=request.body, headers=request.headers)
        except ResponseTooLarge as error:
            raise WebhookFailed(f"response too large: {error}") from None
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, AddressNotAllowed):
                raise WebhookFailed(str(error.os_error)) from None
            raise WebhookFailed(str(error), retryable=True) from None
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError) as error:
            raise WebhookFailed(
                f"connection lost: {type(error).__name__}", retryable=True
            ) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise WebhookFailed(f"invalid response: {type(error).__name__}") from None


class WebhookAnswer(NamedTuple, Generic[T]):
    """outcome: the metric label. value: the result for the caller."""

    outcome: str
    value: T


class Webhook:
    """A site's webhook that answers questions.

    target: the name in the log.
    url: of the webhook.
    signing_secrets: see `sign`.
    answers: counts the outcomes of answers, and `failed` and `paused` for requests without one.
    timeout: seconds for an answer, including the retry.
    clock: Unix time in seconds.
    """

    def __init__(
        self,
        target: str,
        *,
        url: str,
        signing_secrets: Sequence[str],
        client: SiteClient,
        answers: Counter,
        timeout: float,
        clock: Callable[[], float],
    ) -> None:
        self._target = target
        self._url = url
        self._signing_secrets = signing_secrets
        self._client = client
        self._answers = answers
        self._timeout = timeout
        self._clock = clock
        self._breaker = CircuitBreaker()
        self._outage = OutageLog(f"{target} unavailable", f"{target} recovered")

    async def ask(
        self,
        type: str,
        data: Mapping[str, object],
        *,
        parse: Callable[[HTTPResponse], WebhookAnswer[T]],
        caller: Hashable,
    ) -> T:
        """Return the parsed answer. Raises WebhookFailed.

        parse: raises WebhookFailed for an invalid response.
        caller: see `CircuitBreaker.record_failure`.
        """
        if not self._breaker.allows_request():
            self._answers.labels("paused").inc()
            raise WebhookPaused(f"the circuit breaker is open for {RESET_TIMEOUT:.0f} seconds")
        request = sign(self._signing_secrets, type=type, data=data, now=self._clock())
        try:
            async with asyncio.timeout(self._timeout):
                response = await RETRYING(_is_retryable, self._client.post, self._url, request)
            answer = parse(response)
        except TimeoutError:
            raise self._record_failure(
                caller, f"no answer within {self._timeout:g} seconds"
            ) from None
        except WebhookFailed as failed:
            raise self._record_failure(caller, str(failed)) from None
        self._record_answer(answer.outcome)
        return answer.value

    def _record_failure(self, caller: Hashable, reason: str) -> WebhookFailed:
        self._answers.labels("failed").inc()
        self._outage.failed(reason)
        if self._breaker.record_failure(caller):
            log.error(
                "circuit breaker opened", target=self._target, reason=reason, retry_in=RESET_TIMEOUT
            )
        return WebhookFailed(reason)

    def _record_answer(self, outcome: str) -> None:
        self._answers.labels(outcome).inc()
        if self._breaker.record_success():
            log.warning("circuit breaker closed", target=self._target)
        if self._breaker.is_steady:
            self._outage.recovered()


def _is_retryable(error: Exception) -> bool:
    return isinstance(error, WebhookFailed) and error.retryable
