"""Verifies webhooks (Standard Webhooks), and recognises repeats."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import standardwebhooks
from scan_login_client.errors import InvalidWebhook
from scan_login_client.events import Event, parse_event

BODY_MAX_BYTES = 512 * 1024

REMEMBERED = 10_000
"""Answers in memory."""


class Webhook:
    """Parses the requests of a broker. Threads may share it.

    secrets: `whsec_…`; several while you replace one.

    The broker repeats a request whose answer it did not get, with the same `webhook-id`, and an
    attacker may send a copy for 5 minutes. Before you process an event, ask `answer_to`; after
    that, `remember` your answer. Answers are in the memory of this process. A site with several
    processes stores `webhook_id` in its database, with what the event has changed.
    """

    def __init__(self, secrets: str | Sequence[str]) -> None:
        names = [secrets] if isinstance(secrets, str) else list(secrets)
        if not names:
            raise ValueError("a webhook needs a secret: scan-login app rotate-webhook-secret")
        self._keys = [standardwebhooks.Webhook(secret) for secret in names]
        self._answers: dict[str, object] = {}
        self._lock = threading.Lock()

    def parse(self, headers: Mapping[str, str], body: bytes) -> Event:
        """Return the event of a request. Raises InvalidWebhook.

        body: as received, because the signature is for these bytes.
        """
        names = {name.lower(): value for name, value in headers.items()}
        if len(body) > BODY_MAX_BYTES:
            raise InvalidWebhook(f"the body has more than {BODY_MAX_BYTES} bytes")
        return parse_event(names.get("webhook-id", ""), self._verified(names, body))

    def answer_to(self, event: Event) -> object | None:
        """Return the answer to an earlier attempt of this event; None for a new event."""
        return self._answers.get(event.webhook_id)

    def remember(self, event: Event, answer: object) -> None:
        """Store an answer, which must not be None. The oldest of many is dropped."""
        with self._lock:
            self._answers[event.webhook_id] = answer
            if len(self._answers) > REMEMBERED:
                del self._answers[next(iter(self._answers))]

    def _verified(self, headers: dict[str, str], body: bytes) -> object:
        problem: Exception | None = None
        for key in self._keys:
            try:
                return key.verify(body, headers)
            # The library lets a ValueError pass for a malformed header or body.
            except (standardwebhooks.WebhookVerificationError, ValueError, RecursionError) as error:
                problem = error
        raise InvalidWebhook(f"the webhook is invalid: {problem}") from problem
