"""A directory at the site: a webhook maps identities to subjects.

Requests are signed by Standard Webhooks, so that the site can verify the sender. The site
answers with a JSON object: 200 and a `subject`, 404 for an unknown identity, 403 for a blocked
user. Any other response is a failure, such as a page of a proxy, a redirect, or a response
that is late or too long. The phone then gets an error and may try again, and the reason is
logged once for each outage.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import ssl
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import aiohttp
import stamina
import structlog
from aiohttp.abc import AbstractResolver
from stamina.instrumentation import set_on_retry_hooks
from standardwebhooks import Webhook

from broker.directories.settings import DirectorySettings
from broker.directories.shared import SharedDirectory
from broker.errors import BrokerError
from broker.identity.errors import DirectoryUnavailable, UnregisteredUser, UserBlocked
from broker.identity.model import Identity, UserProfile
from broker.identity.rules import parse_claims
from broker.infrastructure.clock import Clock
from broker.infrastructure.codec import decode, encode
from broker.infrastructure.observability.metrics import Counter
from broker.infrastructure.observability.outage import OutageLog
from broker.infrastructure.outbound.circuit_breaker import RESET_TIMEOUT, CircuitBreaker
from broker.infrastructure.outbound.http import HTTPClient, HTTPResponse, ResponseTooLarge
from broker.infrastructure.outbound.ssrf import (
    AddressNotAllowed,
    create_public_socket,
)
from broker.infrastructure.outbound.webhook import SignedRequest, WebhookFailed
from broker.infrastructure.settings import Settings
from broker.users.ports import UserLookup

log = structlog.get_logger()

TOTAL_TIMEOUT = 3.0
"""Seconds for an answer, including the retry, because a user waits."""

RETRY_AFTER = 2
"""Seconds after which a phone may try again."""

RETRYING = stamina.AsyncRetryingCaller(attempts=2, wait_initial=0.1, wait_max=0.2, wait_jitter=0.1)
"""One retry if the connection failed. The request changes nothing at the site."""

RESPONSE_MAX_BYTES = 16 * 1024

SUBJECT_PATTERN = re.compile(r"[!-~]{1,255}")
"""A `sub` has at most 255 ASCII characters (OpenID Connect Core, section 2)."""

ERROR_BY_STATUS: Mapping[int, type[BrokerError]] = {404: UnregisteredUser, 403: UserBlocked}

OUTCOME_BY_STATUS: Mapping[int, str] = {200: "found", 404: "unregistered", 403: "blocked"}
"""The metric label of a response."""

# This module logs failures. stamina would log them as well, with the user's ids.
set_on_retry_hooks([])


class WebhookDirectory:
    """A directory behind the site's webhook.

    url: of the webhook.
    signing_secrets: `whsec_…`. Each request is signed with all of them, so that the site can
    replace its secret.
    allow_private_address: whether the webhook may have an address that is not public.
    clock: Unix time in seconds.
    tls, resolver: used instead of the system's.
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
        self._allow_private_address = allow_private_address
        self._clock = clock
        self._tls = tls
        self._resolver = resolver
        self._breaker = CircuitBreaker()
        self._outage = OutageLog("directory unavailable", "directory recovered")

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

    async def find(self, identity: Identity) -> UserProfile:
        if not self._breaker.allows_request():
            DIRECTORY_ANSWERS.labels("paused").inc()
            raise DirectoryUnavailable(
                f"the circuit breaker is open for {RESET_TIMEOUT:.0f} seconds",
                round(RESET_TIMEOUT),
            )
        try:
            async with asyncio.timeout(TOTAL_TIMEOUT):
                response = await RETRYING(_is_retryable, self._send, self._sign(identity))
            profile = _parse_profile(response)
        except TimeoutError:
            reason = f"no answer within {TOTAL_TIMEOUT:.0f} seconds"
            raise self._record_failure(identity, reason) from None
        except WebhookFailed as failed:
            raise self._record_failure(identity, str(failed)) from None
        self._record_answer(response)
        if profile is None:
            raise ERROR_BY_STATUS[response.status]
        return profile

    def _sign(self, identity: Identity) -> SignedRequest:
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
        signatures = [webhook.sign(message_id, now, body.decode()) for webhook in self._webhooks]
        headers = {
            "Content-Type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(signatures),
        }
        return SignedRequest(body, headers)

    async def _send(self, request: SignedRequest) -> HTTPResponse:
        try:
            return await self._http.request(
                "POST", self._url, data=request.body, headers=request.headers
            )
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
        except (aiohttp.ClientError, OSError) as error:
            raise WebhookFailed(f"invalid response: {type(error).__name__}") from None

    def _record_failure(self, identity: Identity, reason: str) -> DirectoryUnavailable:
        DIRECTORY_ANSWERS.labels("failed").inc()
        self._outage.failed(reason)
        if self._breaker.record_failure(identity):
            log.error(
                "circuit breaker opened", target="directory", reason=reason, retry_in=RESET_TIMEOUT
            )
        return DirectoryUnavailable(reason, RETRY_AFTER)

    def _record_answer(self, response: HTTPResponse) -> None:
        DIRECTORY_ANSWERS.labels(OUTCOME_BY_STATUS[response.status]).inc()
        if self._breaker.record_success():
            log.warning("circuit breaker closed", target="directory")
        if self._breaker.is_steady:
            self._outage.recovered()


def _is_retryable(error: Exception) -> bool:
    return isinstance(error, WebhookFailed) and error.retryable


def _parse_profile(response: HTTPResponse) -> UserProfile | None:
    """Return the profile, or None if the response is a 404 or 403. Raises WebhookFailed.

    Each response needs a JSON object, because a 404 or 403 without one may come from a proxy
    or from a wrong path.
    """
    if response.status not in OUTCOME_BY_STATUS:
        raise WebhookFailed(f"status {response.status}")
    try:
        fields = decode(response.content)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise WebhookFailed(f"status {response.status} without a JSON object")
    if response.status != 200:
        return None
    subject = fields.get("subject")
    if not isinstance(subject, str) or not SUBJECT_PATTERN.fullmatch(subject):
        raise WebhookFailed("invalid subject: it needs 1 to 255 ASCII characters without spaces")
    claims, invalid = parse_claims(fields)
    if invalid:
        log.warning("invalid claims ignored", claims=invalid)
    return UserProfile(subject=subject, **claims)


DIRECTORY_ANSWERS = Counter(
    "scanlogin_directory_answers", "Responses of the site's webhook", ["outcome"]
)


def open_directory(settings: Settings, users: UserLookup, clock: Clock) -> SharedDirectory:
    directory = settings[DirectorySettings]
    webhook = WebhookDirectory(
        url=directory.directory,
        signing_secrets=[secret.get_secret_value() for secret in directory.directory_secret],
        allow_private_address=directory.directory_private,
        clock=clock,
    )
    return SharedDirectory(webhook)
