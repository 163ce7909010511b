"""Asks the site whether it accepts a file: the webhook `file.offered`."""

from __future__ import annotations

from broker.apps.model import App
from broker.apps.ports import WebhookSecrets
from broker.files.errors import FileRefused, OfferUnavailable
from broker.files.metrics import OFFERS
from broker.files.model import StoredFile
from broker.infrastructure.clock import Clock
from broker.infrastructure.outbound.http import HTTPResponse
from broker.infrastructure.outbound.webhook import (
    SiteClient,
    Webhook,
    WebhookAnswer,
    WebhookFailed,
    read_object,
)

ANSWER_TIMEOUT = 3.0
"""Seconds for an answer of the site."""

WEBHOOKS_MAX = 1_000
"""Webhooks in memory, each with the state of its circuit breaker."""


class FileOffers:
    """client: sends requests to URLs of sites."""

    def __init__(self, *, secrets: WebhookSecrets, client: SiteClient, clock: Clock) -> None:
        self._secrets = secrets
        self._client = client
        self._clock = clock
        self._webhooks: dict[tuple[str, str, tuple[str, ...]], Webhook] = {}

    async def ask(self, app: App, file: StoredFile) -> None:
        """Return if the app keeps the file. Raises FileRefused or OfferUnavailable."""
        if app.files_url is None:
            return
        webhook = self._webhook(app, app.files_url)
        caller = (app.key, file.owner.person)
        try:
            is_kept = await webhook.ask(
                "file.offered", _describe(app, file), parse=_parse_answer, caller=caller
            )
        except WebhookFailed:  # logged and counted by the webhook
            raise OfferUnavailable from None
        if not is_kept:
            raise FileRefused

    def _webhook(self, app: App, url: str) -> Webhook:
        """Return the webhook of the app, with its circuit breaker. Raises OfferUnavailable."""
        signing_secrets = tuple(self._secrets.webhook_secrets(app.id))
        if not signing_secrets:
            raise OfferUnavailable("the app has no webhook secret; its operator has to make one")
        key = (app.key, url, signing_secrets)
        if key not in self._webhooks:
            if len(self._webhooks) >= WEBHOOKS_MAX:
                del self._webhooks[next(iter(self._webhooks))]
            self._webhooks[key] = Webhook(
                f"file offers of {app.id}",
                url=url,
                signing_secrets=signing_secrets,
                client=self._client,
                answers=OFFERS,
                timeout=ANSWER_TIMEOUT,
                clock=self._clock,
            )
        return self._webhooks[key]


def _describe(app: App, file: StoredFile) -> dict[str, object]:
    return {
        "app": app.id,
        "openid": file.owner.openid,
        "subject": file.owner.subject,
        "size": file.size,
        "media_type": file.media_type,
        "purpose": file.purpose,
        "sha256": file.sha256,
    }


def _parse_answer(response: HTTPResponse) -> WebhookAnswer[bool]:
    if response.status == 200:
        return WebhookAnswer("kept", True)
    if response.status == 403:
        read_object(response)
        return WebhookAnswer("refused", False)
    raise WebhookFailed(f"status {response.status}")
