"""The site's own people: its webhook is asked who an identity is.

A request is signed after Standard Webhooks, so that the site knows whose it is, and is
answered with JSON: 200 and a `subject`, 404 for somebody unknown, 403 for one who is let
in no more.  Whatever else comes is nobody's answer: a page of a proxy's, a redirect, an
answer too late or too long.  The phone hears that it may try again, and the operator
reads why, once for each outage.
"""

from __future__ import annotations

import asyncio
import base64
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

from broker.breaker import PAUSE, Breaker
from broker.egress import AddressRefused, is_loopback, may_be_public, public_socket
from broker.errors import BrokerError, DirectoryFails, UnregisteredUser, UserBlocked
from broker.login import Identity
from broker.metrics import DIRECTORY
from broker.outage import Outage
from broker.packing import pack, unpack
from broker.urls import split

log = structlog.get_logger()

WITHIN = 3.0
"""Seconds for an answer, repeat included: a person looks at the phone meanwhile."""

RETRY_AFTER = 2
"""Seconds after which a phone may ask again."""

REPEATING = stamina.AsyncRetryingCaller(attempts=2, wait_initial=0.1, wait_max=0.2, wait_jitter=0.1)
"""Once more, where the connection failed: to ask who somebody is changes nothing."""

ANSWER_MAX_BYTES = 16 * 1024

SUBJECT = re.compile(r"[!-~]{1,255}")
"""OpenID Connect Core, 2: a `sub` has at most 255 ASCII characters."""

KEY_BYTES = range(24, 65)
"""Standard Webhooks: a secret has 24 to 64 bytes."""

REFUSALS: Mapping[int, type[BrokerError]] = {404: UnregisteredUser, 403: UserBlocked}

OUTCOMES: Mapping[int, str] = {200: "found", 404: "unregistered", 403: "blocked"}
"""How an answer is counted, by its status."""

# A request that fails is logged here; stamina would do so too, with the person in it.
set_on_retry_hooks([])


class Answer(NamedTuple):
    status: int
    content: bytes


class Failed(Exception):
    """No answer to what was asked.  again: whether to ask once more at once."""

    def __init__(self, reason: str, *, again: bool = False) -> None:
        super().__init__(reason)
        self.again = again


class HttpDirectory:
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
        private: bool,
        clock: Callable[[], float],
        tls: ssl.SSLContext | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._url = url
        self._webhooks = [Webhook(secret) for secret in signing_secrets]
        self._private = private
        self._clock = clock
        self._tls = tls
        self._resolver = resolver
        self._breaker = Breaker()
        self._outage = Outage("the directory does not answer as it should", "the directory is back")

    async def open(self) -> None:
        connector = aiohttp.TCPConnector(
            ssl=self._tls or True,
            resolver=self._resolver,
            socket_factory=None if self._private else public_socket,
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
            DIRECTORY.labels("paused").inc()
            raise DirectoryFails(f"is left alone for {PAUSE:.0f} seconds", round(PAUSE))
        try:
            async with asyncio.timeout(WITHIN):
                answer = await REPEATING(_may_repeat, self._ask, *self._message(identity))
            subject = _read(answer)
        except TimeoutError:
            raise self._failed(identity, f"no answer within {WITHIN:.0f} seconds") from None
        except Failed as failed:
            raise self._failed(identity, str(failed)) from None
        self._answered(answer)
        if subject is None:
            raise REFUSALS[answer.status]
        return subject

    def _message(self, identity: Identity) -> tuple[bytes, dict[str, str]]:
        """Body and headers of the question who `identity` is."""
        now = datetime.fromtimestamp(int(self._clock()), UTC)
        body = pack(
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

    async def _ask(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        try:
            async with self._http.post(
                self._url, data=body, headers=headers, allow_redirects=False
            ) as response:
                return Answer(response.status, await _whole(response))
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, AddressRefused):
                raise Failed(str(error.os_error)) from None
            raise Failed(str(error), again=True) from None
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError) as error:
            raise Failed(f"the connection broke: {type(error).__name__}", again=True) from None
        except (aiohttp.ClientError, OSError) as error:
            raise Failed(f"no answer that can be read: {type(error).__name__}") from None

    def _failed(self, identity: Identity, reason: str) -> DirectoryFails:
        DIRECTORY.labels("failed").inc()
        self._outage.fails(reason)
        if self._breaker.record_failure(identity):
            log.error("circuit breaker opened", target="directory", reason=reason, retry_in=PAUSE)
        return DirectoryFails(reason, RETRY_AFTER)

    def _answered(self, answer: Answer) -> None:
        DIRECTORY.labels(OUTCOMES[answer.status]).inc()
        if self._breaker.record_success():
            log.warning("circuit breaker closed", target="directory")
        if self._breaker.is_steady:
            self._outage.is_over()


def check_url(url: str, *, private: bool) -> None:
    """Raises ValueError for a webhook's URL, http or https, that will not be asked."""
    parts = split(url)
    host, port = parts.hostname or "", parts.port
    if port == 0 or parts.username is not None or parts.password is not None:
        raise ValueError("want no password, for the signature proves it, and no port 0")
    if parts.scheme == "http" and not (private and is_loopback(host)):
        raise ValueError(
            "people's ids would travel in the clear: want https, or http on loopback and "
            "SCAN_LOGIN_DIRECTORY_PRIVATE=true"
        )
    if not private and not may_be_public(host):
        raise ValueError(
            f"{host} is no public address: set SCAN_LOGIN_DIRECTORY_PRIVATE=true if that is meant"
        )


def read_signing_secret(text: str) -> str:
    """A secret as it stands in settings; raises ValueError, which repeats nothing of it."""
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except ValueError:
        key = b""
    if not text.startswith("whsec_") or len(key) not in KEY_BYTES:
        raise ValueError(
            "want whsec_ and 24 to 64 bytes in base64: echo whsec_$(openssl rand -base64 32)"
        )
    return text


def _may_repeat(error: Exception) -> bool:
    return isinstance(error, Failed) and error.again


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > ANSWER_MAX_BYTES:
            raise Failed(f"an answer over {ANSWER_MAX_BYTES // 1024} KB")
    return bytes(content)


def _read(answer: Answer) -> str | None:
    """The subject, or None where the status says it all; raises Failed for no answer of a site's.

    A bare 404 or 403 may be a proxy's, or a wrong path's: who answers says it in JSON.
    """
    if answer.status not in OUTCOMES:
        raise Failed(f"status {answer.status}")
    try:
        fields = unpack(answer.content)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise Failed(f"status {answer.status} without a JSON object")
    if answer.status != 200:
        return None
    subject = fields.get("subject")
    if not isinstance(subject, str) or not SUBJECT.fullmatch(subject):
        raise Failed("a subject that is none: want 1 to 255 ASCII characters without spaces")
    return subject
