"""Decides who may join a room: by the app field `rooms`, or by the site's webhook."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from broker.apps.model import App
from broker.apps.ports import WebhookSecrets
from broker.apps.rules import NO_ROOMS, OPEN_ROOMS
from broker.chat.errors import AdmissionUnavailable, ChatDenied, ChatDisabled, UnknownRoom
from broker.chat.metrics import ADMISSIONS
from broker.chat.rules import SAY, may_in_room, parse_may
from broker.errors import BrokerError
from broker.infrastructure.clock import Clock
from broker.infrastructure.fair_queue import FairQueue
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

ANSWER_TTL = 60.0
"""Seconds for which an answer is used again."""

ANSWERS_MAX = 50_000
"""Answers in memory."""

PERSON_SHARE, APP_SHARE, CONCURRENT_MAX = 4, 16, 64
"""Concurrent requests for one person, to one site and to all sites."""

WEBHOOKS_MAX = 1_000
"""Webhooks in memory, each with the state of its circuit breaker."""

DENIED = "the site does not admit you to this room"


class Applicant(NamedTuple):
    """subject: who wants to join. openid: the id at the provider, if it is known."""

    subject: str
    openid: str | None


class Answer(NamedTuple):
    """The decision of a site. may: None for a refusal, with its error."""

    may: frozenset[str] | None
    error: type[BrokerError] = ChatDenied


class Admission:
    """Admits people to rooms.

    client: sends requests to URLs of sites.
    clock: Unix time in seconds. monotonic: seconds, for the age of answers.
    """

    def __init__(
        self,
        *,
        secrets: WebhookSecrets,
        client: SiteClient,
        clock: Clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._secrets = secrets
        self._client = client
        self._clock = clock
        self._monotonic = monotonic
        self._webhooks: dict[tuple[str, str, tuple[str, ...]], Webhook] = {}
        self._answers: dict[tuple[str, str, str, str], tuple[float, Answer]] = {}
        self._turns = FairQueue(share=APP_SHARE, total=CONCURRENT_MAX, wait=ANSWER_TIMEOUT)
        self._people = FairQueue(share=PERSON_SHARE, wait=ANSWER_TIMEOUT)
        self._repeats = FairQueue(share=1, wait=ANSWER_TIMEOUT)

    async def admit(self, app: App, room: str, applicant: Applicant) -> frozenset[str]:
        """Return what a person may do in a room; the name `@` stands for all pairs.

        Raises ChatDenied, ChatDisabled, UnknownRoom or AdmissionUnavailable.
        """
        if app.rooms == NO_ROOMS:
            raise ChatDisabled
        if app.rooms == OPEN_ROOMS:
            return may_in_room(frozenset({SAY}), applicant.subject, app.moderators)
        answer = await self._answer(app, room, applicant)
        if answer.may is None:
            raise answer.error(DENIED) if answer.error is ChatDenied else answer.error()
        return may_in_room(answer.may, applicant.subject, app.moderators)

    async def _answer(self, app: App, room: str, applicant: Applicant) -> Answer:
        key = (app.key, app.rooms, room, applicant.subject)
        known = self._known(key)
        if known is not None:
            return known
        try:
            async with (
                self._repeats.turn(key),  # a repeat finds the answer of the first one
                self._people.turn((app.key, applicant.subject)),
                self._turns.turn(app.key),
            ):
                answer = self._known(key) or await self._ask(app, room, applicant)
        except TimeoutError:
            raise AdmissionUnavailable from None
        self._answers.pop(key, None)
        if len(self._answers) >= ANSWERS_MAX:
            del self._answers[next(iter(self._answers))]
        self._answers[key] = (self._monotonic() + ANSWER_TTL, answer)
        return answer

    def _known(self, key: tuple[str, str, str, str]) -> Answer | None:
        end, answer = self._answers.get(key, (0.0, None))
        return answer if end > self._monotonic() else None

    async def _ask(self, app: App, room: str, applicant: Applicant) -> Answer:
        data = {"app": app.id, "room": room, "subject": applicant.subject}
        if applicant.openid is not None:
            data["openid"] = applicant.openid
        webhook = self._webhook(app)
        try:
            return await webhook.ask(
                "room.admit", data, parse=_parse_answer, caller=(app.key, applicant.subject)
            )
        except WebhookFailed:  # logged and counted by the webhook
            raise AdmissionUnavailable from None

    def _webhook(self, app: App) -> Webhook:
        """Return the webhook of the app, with its circuit breaker. Raises AdmissionUnavailable."""
        signing_secrets = tuple(self._secrets.webhook_secrets(app.id))
        if not signing_secrets:
            raise AdmissionUnavailable(
                "the app has no webhook secret; its operator has to make one"
            )
        key = (app.key, app.rooms, signing_secrets)
        if key not in self._webhooks:
            if len(self._webhooks) >= WEBHOOKS_MAX:
                del self._webhooks[next(iter(self._webhooks))]
            self._webhooks[key] = Webhook(
                f"chat admission of {app.id}",
                url=app.rooms,
                signing_secrets=signing_secrets,
                client=self._client,
                answers=ADMISSIONS,
                timeout=ANSWER_TIMEOUT,
                clock=self._clock,
            )
        return self._webhooks[key]


def _parse_answer(response: HTTPResponse) -> WebhookAnswer[Answer]:
    if response.status not in (200, 403, 404):
        raise WebhookFailed(f"status {response.status}")
    fields = read_object(response)
    if response.status == 403:
        return WebhookAnswer("denied", Answer(None))
    if response.status == 404:
        return WebhookAnswer("unknown", Answer(None, UnknownRoom))
    may = parse_may(fields.get("may"))
    if may is None:
        raise WebhookFailed("invalid answer: `may` needs a list of say and moderate")
    return WebhookAnswer("admitted", Answer(may))
