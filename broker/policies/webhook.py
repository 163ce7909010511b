"""A policy at the site: a webhook judges each scan.

Requests are signed by Standard Webhooks. The site answers 200 with
`{"verdict": "allow"|"challenge"|"deny", "reason"?}`. If there is no such answer in time, the
verdict is a challenge: an outage does not lock users out.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping, Sequence

from aiohttp.abc import AbstractResolver

from broker.identity.model import Identity
from broker.infrastructure.clock import Clock
from broker.infrastructure.fair_queue import FairQueue
from broker.infrastructure.outbound.http import HTTPResponse
from broker.infrastructure.outbound.settings import OutboundSettings
from broker.infrastructure.outbound.webhook import (
    SiteClient,
    Webhook,
    WebhookAnswer,
    WebhookFailed,
    read_object,
)
from broker.infrastructure.settings import Settings
from broker.login.model import Decision, Verdict
from broker.login.ports import PolicyCase
from broker.policies.countries import Countries, open_countries
from broker.policies.metrics import POLICY_ANSWERS
from broker.policies.settings import PolicySettings

ANSWER_TIMEOUT = 1.0
"""Seconds for an answer, because a user waits for the page after the scan."""

CONCURRENT_MAX = 32
"""Concurrent requests to the site."""

REASON_MAX = 100
"""Characters of a reason in the audit log."""

DECISIONS: Mapping[object, Decision] = {decision.value: decision for decision in Decision}


class WebhookPolicy:
    """A policy behind a site's webhook. It has one request at a time for each person.

    The arguments are those of `Webhook` and `SiteClient`.
    """

    def __init__(
        self,
        *,
        url: str,
        signing_secrets: Sequence[str],
        countries: Countries,
        allow_private_address: bool,
        clock: Callable[[], float],
        tls: ssl.SSLContext | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._client = SiteClient(
            allow_private_address=allow_private_address, tls=tls, resolver=resolver
        )
        self._webhook = Webhook(
            "policy",
            url=url,
            signing_secrets=signing_secrets,
            client=self._client,
            answers=POLICY_ANSWERS,
            timeout=ANSWER_TIMEOUT,
            clock=clock,
        )
        self._countries = countries
        self._turns = FairQueue(share=1, total=CONCURRENT_MAX, wait=ANSWER_TIMEOUT)

    async def open(self) -> None:
        await self._client.open()

    async def close(self) -> None:
        await self._client.close()
        self._countries.close()

    async def judge(self, case: PolicyCase) -> Verdict:
        try:
            async with self._turns.turn(case.identity):
                return await self._webhook.ask(
                    "login.judge",
                    self._data(case),
                    parse=_parse_verdict,
                    caller=case.identity,
                )
        except TimeoutError:
            POLICY_ANSWERS.labels("failed").inc()
        except WebhookFailed:
            pass  # logged and counted by the webhook
        return Verdict(Decision.CHALLENGE, "no_answer")

    def _data(self, case: PolicyCase) -> Mapping[str, object]:
        return {
            "app": case.app,
            "login_id": case.login_id,
            "browser": {
                **self._place(case.browser.ip),
                "user_agent": case.browser.user_agent,
                "since": int(case.began_at),
                "known": case.known,
            },
            "phone": {
                **self._place(case.phone_ip),
                **({} if case.how is None else {"how": case.how}),
            },
            "identity": _identity(case.identity),
        }

    def _place(self, ip: str) -> Mapping[str, str]:
        country = self._countries.find(ip)
        return {"ip": ip} if country is None else {"ip": ip, "country": country}


def _identity(identity: Identity) -> Mapping[str, str | None]:
    return {
        "provider": identity.provider,
        "provider_app_id": identity.provider_app_id,
        "openid": identity.id,
        "unionid": identity.unionid,
    }


def _parse_verdict(response: HTTPResponse) -> WebhookAnswer[Verdict]:
    if response.status != 200:
        raise WebhookFailed(f"status {response.status}")
    fields = read_object(response)
    verdict, reason = fields.get("verdict"), fields.get("reason")
    decision = DECISIONS.get(verdict) if isinstance(verdict, str) else None
    if decision is None:
        raise WebhookFailed("invalid verdict: it needs allow, challenge or deny")
    text = reason if isinstance(reason, str) and reason.isprintable() else ""
    return WebhookAnswer(decision.value, Verdict(decision, text[:REASON_MAX]))


def open_policy(settings: Settings, clock: Clock) -> WebhookPolicy:
    """Raises ValueError for a GEO file that cannot be read."""
    policy = settings[PolicySettings]
    return WebhookPolicy(
        url=policy.policy,
        signing_secrets=[secret.get_secret_value() for secret in policy.policy_secret],
        countries=open_countries(policy.geo_file),
        allow_private_address=settings[OutboundSettings].webhooks_private,
        clock=clock,
    )
