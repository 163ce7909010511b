"""A directory at the site: a webhook maps identities to users.

Requests are signed by Standard Webhooks, so that the site can verify the sender. The site
answers with a JSON object: 200 with a `subject` and optional claims, 404 for an unknown identity,
403 for a blocked user. Any other response is a failure, such as a page of a proxy, a redirect, or
a response that is late or too long. The phone then gets an error and may try again, and the reason
is logged once for each outage.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping, Sequence

import structlog
from aiohttp.abc import AbstractResolver

from broker.directories.settings import DirectorySettings
from broker.directories.shared import SharedDirectory
from broker.errors import BrokerError
from broker.identity.errors import DirectoryUnavailable, UnregisteredUser, UserBlocked
from broker.identity.model import Identity, UserProfile
from broker.identity.rules import parse_claims
from broker.infrastructure.clock import Clock
from broker.infrastructure.observability.metrics import Counter
from broker.infrastructure.outbound.circuit_breaker import RESET_TIMEOUT
from broker.infrastructure.outbound.http import HTTPResponse
from broker.infrastructure.outbound.webhook import (
    SiteClient,
    Webhook,
    WebhookAnswer,
    WebhookFailed,
    WebhookPaused,
    read_object,
)
from broker.infrastructure.settings import Settings
from broker.users.ports import UserLookup

log = structlog.get_logger()

TOTAL_TIMEOUT = 3.0
"""Seconds for an answer, including the retry, because a user waits."""

RETRY_AFTER = 2
"""Seconds after which a phone may try again."""

SUBJECT_PATTERN = re.compile(r"[!-~]{1,255}")
"""A `sub` has at most 255 ASCII characters (OpenID Connect Core, section 2)."""

OUTCOME_BY_STATUS: Mapping[int, str] = {200: "found", 404: "unregistered", 403: "blocked"}
"""The metric label of a response."""

ERROR_BY_STATUS: Mapping[int, type[BrokerError]] = {404: UnregisteredUser, 403: UserBlocked}

DIRECTORY_ANSWERS = Counter(
    "scanlogin_directory_answers", "Responses of the site's webhook", ["outcome"]
)


class WebhookDirectory:
    """A directory behind the site's webhook.

    The arguments are those of `Webhook` and `SiteClient`.
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
        self._client = SiteClient(
            allow_private_address=allow_private_address, tls=tls, resolver=resolver
        )
        self._webhook = Webhook(
            "directory",
            url=url,
            signing_secrets=signing_secrets,
            client=self._client,
            answers=DIRECTORY_ANSWERS,
            timeout=TOTAL_TIMEOUT,
            clock=clock,
        )

    async def open(self) -> None:
        await self._client.open()

    async def close(self) -> None:
        await self._client.close()

    async def find(self, identity: Identity) -> UserProfile:
        data = {
            "provider": identity.provider,
            "provider_app_id": identity.provider_app_id,
            "openid": identity.id,
            "unionid": identity.unionid,
        }
        try:
            answer = await self._webhook.ask(
                "identity.find", data, parse=_parse_answer, caller=identity
            )
        except WebhookPaused as paused:
            raise DirectoryUnavailable(str(paused), round(RESET_TIMEOUT)) from None
        except WebhookFailed as failed:
            raise DirectoryUnavailable(str(failed), RETRY_AFTER) from None
        if isinstance(answer, UserProfile):
            return answer
        raise answer


def _parse_answer(response: HTTPResponse) -> WebhookAnswer[UserProfile | type[BrokerError]]:
    """Return the user, or the error of a 404 or 403. Raises WebhookFailed.

    Each response needs a JSON object, because a 404 or 403 without one may come from a proxy
    or from a wrong path.
    """
    if response.status not in OUTCOME_BY_STATUS:
        raise WebhookFailed(f"status {response.status}")
    fields = read_object(response)
    outcome = OUTCOME_BY_STATUS[response.status]
    if response.status != 200:
        return WebhookAnswer(outcome, ERROR_BY_STATUS[response.status])
    subject = fields.get("subject")
    if not isinstance(subject, str) or not SUBJECT_PATTERN.fullmatch(subject):
        raise WebhookFailed("invalid subject: it needs 1 to 255 ASCII characters without spaces")
    claims, invalid = parse_claims(fields)
    if invalid:
        log.warning("invalid claims ignored", claims=invalid)
    return WebhookAnswer(outcome, UserProfile(subject=subject, **claims))


def open_directory(settings: Settings, users: UserLookup, clock: Clock) -> SharedDirectory:
    directory = settings[DirectorySettings]
    webhook = WebhookDirectory(
        url=directory.directory,
        signing_secrets=[secret.get_secret_value() for secret in directory.directory_secret],
        allow_private_address=directory.directory_private,
        clock=clock,
    )
    return SharedDirectory(webhook)
