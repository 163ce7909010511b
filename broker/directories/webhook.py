"""The site's own people: its webhook is asked who an identity is.

A request is signed after Standard Webhooks, so that the site knows whose it is, and is
answered with JSON: 200 and a `subject`, 404 for somebody unknown, 403 for one who is let
in no more.  Whatever else comes is nobody's answer: a page of a proxy's, a redirect, an
answer too late or too long.  The phone hears that it may try again, and the operator
reads why, once for each outage.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import ssl
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import aiohttp
import stamina
import structlog
from aiohttp.abc import AbstractResolver
from stamina.instrumentation import set_on_retry_hooks
from standardwebhooks import Webhook

from broker.errors import BrokerError
from broker.identity.errors import DirectoryUnavailable, UnregisteredUser, UserBlocked
from broker.identity.model import Identity
from broker.infrastructure.codec import decode, encode
from broker.infrastructure.observability.metrics import Counter
from broker.infrastructure.observability.outage import OutageLog
from broker.infrastructure.outbound.circuit_breaker import RESET_TIMEOUT, CircuitBreaker
from broker.infrastructure.outbound.ssrf import (
    AddressNotAllowed,
    create_public_socket,
)

log = structlog.get_logger()

TOTAL_TIMEOUT = 3.0
"""Seconds for an answer, repeat included: a person looks at the phone meanwhile."""

RETRY_AFTER = 2
"""Seconds after which a phone may ask again."""

RETRYING = stamina.AsyncRetryingCaller(attempts=2, wait_initial=0.1, wait_max=0.2, wait_jitter=0.1)
"""Once more, where the connection failed: to ask who somebody is changes nothing."""

RESPONSE_MAX_BYTES = 16 * 1024

SUBJECT_PATTERN = re.compile(r"[!-~]{1,255}")
"""OpenID Connect Core, 2: a `sub` has at most 255 ASCII characters."""

ERROR_BY_STATUS: Mapping[int, type[BrokerError]] = {404: UnregisteredUser, 403: UserBlocked}

OUTCOME_BY_STATUS: Mapping[int, str] = {200: "found", 404: "unregistered", 403: "blocked"}
"""How an answer is counted, by its status."""

# A request that fails is logged here; stamina would do so too, with the person in it.
set_on_retry_hooks([])


class WebhookResponse(NamedTuple):
    status: int
    content: bytes


class WebhookFailed(Exception):
    """No answer to what was asked.  again: whether to ask once more at once."""

    def __init__(self, reason: str, *, retryable: bool = False) -> None:
        super().__init__(reason)
        self.retryable = retryable


class WebhookDirectory:
    """url: of the webhook.  signing_secrets: `whsec_…`, each of which signs, so that a site
    can exchange its own.  private: whether the webhook may be at an address that is not
    public.  clock: Unix time in seconds.

    tls, resolver: in place of the system's.
    """

    def __init__(
        self,
        *,
        url: str,
        signing_secrets: Sequence[str],
        allow_private_address: bool,
        clock: Callable[[], float],
        tls: ssl.SSLContext | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._url = url
        self._webhooks = [Webhook(secret) for secret in signing_secrets]
        self._private = allow_private_address
        self._clock = clock
        self._tls = tls
        self._resolver = resolver
        self._breaker = CircuitBreaker()
        self._outage = OutageLog(
            "the directory does not answer as it should", "the directory is back"
        )

    async def open(self) -> None:
        connector = aiohttp.TCPConnector(
            ssl=self._tls or True,
            resolver=self._resolver,
            socket_factory=None if self._private else create_public_socket,
        )
        self._http = aiohttp.ClientSession(
            connector=connector,
            headers={"Accept-Encoding": "identity", "User-Agent": "scan-login"},
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,  # a proxy would connect to what it likes
        )

    async def close(self) -> None:
        await self._http.close()

    async def find(self, identity: Identity) -> str:
        if not self._breaker.allows_request():
            DIRECTORY_ANSWERS.labels("paused").inc()
            raise DirectoryUnavailable(
                f"is left alone for {RESET_TIMEOUT:.0f} seconds", round(RESET_TIMEOUT)
            )
        try:
            async with asyncio.timeout(TOTAL_TIMEOUT):
                answer = await RETRYING(_may_repeat, self._ask, *self._message(identity))
            subject = _read(answer)
        except TimeoutError:
            raise self._failed(identity, f"no answer within {TOTAL_TIMEOUT:.0f} seconds") from None
        except WebhookFailed as failed:
            raise self._failed(identity, str(failed)) from None
        self._answered(answer)
        if subject is None:
            raise ERROR_BY_STATUS[answer.status]
        return subject

    def _message(self, identity: Identity) -> tuple[bytes, dict[str, str]]:
        """Body and headers of the question who `identity` is."""
        now = datetime.fromtimestamp(int(self._clock()), UTC)
        body = encode(
            {
                "type": "identity.find",
                "timestamp": now.isoformat(),
                "data": {
                    "provider": identity.provider,
                    "provider_app_id": identity.provider_app_id,
                    "openid": identity.id,
                    "unionid": identity.unionid,
                },
            }
        )
        message_id = f"msg_{secrets.token_urlsafe(16)}"
        signed = [one.sign(message_id, now, body.decode()) for one in self._webhooks]
        return body, {
            "Content-Type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(signed),
        }

    async def _ask(self, body: bytes, headers: Mapping[str, str]) -> WebhookResponse:
        try:
            async with self._http.post(
                self._url, data=body, headers=headers, allow_redirects=False
            ) as response:
                return WebhookResponse(response.status, await _whole(response))
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, AddressNotAllowed):
                raise WebhookFailed(str(error.os_error)) from None
            raise WebhookFailed(str(error), retryable=True) from None
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError) as error:
            raise WebhookFailed(
                f"the connection broke: {type(error).__name__}", retryable=True
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            raise WebhookFailed(f"no answer that can be read: {type(error).__name__}") from None

    def _failed(self, identity: Identity, reason: str) -> DirectoryUnavailable:
        DIRECTORY_ANSWERS.labels("failed").inc()
        self._outage.failed(reason)
        if self._breaker.record_failure(identity):
            log.error(
                "circuit breaker opened", target="directory", reason=reason, retry_in=RESET_TIMEOUT
            )
        return DirectoryUnavailable(reason, RETRY_AFTER)

    def _answered(self, answer: WebhookResponse) -> None:
        DIRECTORY_ANSWERS.labels(OUTCOME_BY_STATUS[answer.status]).inc()
        if self._breaker.record_success():
            log.warning("circuit breaker closed", target="directory")
        if self._breaker.is_steady:
            self._outage.recovered()


def _may_repeat(error: Exception) -> bool:
    return isinstance(error, WebhookFailed) and error.retryable


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > RESPONSE_MAX_BYTES:
            raise WebhookFailed(f"an answer over {RESPONSE_MAX_BYTES // 1024} KB")
    return bytes(content)


def _read(answer: WebhookResponse) -> str | None:
    """Return the subject, None if the status is sufficient.  Raises WebhookFailed if invalid.

    A bare 404 or 403 may be a proxy's, or a wrong path's: who answers says it in JSON.
    """
    if answer.status not in OUTCOME_BY_STATUS:
        raise WebhookFailed(f"status {answer.status}")
    try:
        fields = decode(answer.content)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise WebhookFailed(f"status {answer.status} without a JSON object")
    if answer.status != 200:
        return None
    subject = fields.get("subject")
    if not isinstance(subject, str) or not SUBJECT_PATTERN.fullmatch(subject):
        raise WebhookFailed("a subject that is none: want 1 to 255 ASCII characters without spaces")
    return subject


DIRECTORY_ANSWERS = Counter(
    "scanlogin_directory_answers", "Answers of the site's webhook", ["outcome"]
)
