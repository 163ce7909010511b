"""Events for apps, sent to their `events_url` as Standard Webhooks."""

from __future__ import annotations

import asyncio

import structlog

from broker.apps.model import App
from broker.apps.ports import Apps, WebhookSecrets
from broker.infrastructure.clock import Clock
from broker.infrastructure.codec import decoder, encode
from broker.infrastructure.coordination import DeferredCall
from broker.infrastructure.observability.metrics import Counter
from broker.infrastructure.outbound.webhook import SiteClient, WebhookFailed, sign
from broker.infrastructure.retries import CallOutcome, Defer
from broker.login.ports import ReportedLogin

log = structlog.get_logger()

KIND = "event"

EVENT_TIMEOUT = 5.0
"""Seconds for an answer of the app."""

APP_EVENTS = Counter(
    "scanlogin_app_events", "Attempts to deliver events to apps by outcome", ["app", "outcome"]
)

_decode_report = decoder(ReportedLogin)


class AppEvents:
    """Puts and makes the calls for events.

    client: sends requests to URLs of sites.
    """

    def __init__(
        self,
        *,
        defer: Defer,
        apps: Apps,
        secrets: WebhookSecrets,
        client: SiteClient,
        clock: Clock,
    ) -> None:
        self._defer = defer
        self._apps = apps
        self._secrets = secrets
        self._client = client
        self._clock = clock

    async def login_reported(self, report: ReportedLogin) -> None:
        """Put a call if the app receives events. Raises Unavailable."""
        if self._app(report) is not None:
            await self._defer(KIND, report.app, encode(report).decode())

    async def attempt(self, call: DeferredCall) -> CallOutcome:
        """Make one attempt. An app that no longer receives events gets none."""
        report = _decode_report(call.payload.encode())
        app = self._app(report)
        if app is None:
            return CallOutcome.REFUSED
        problem, outcome = "", CallOutcome.FAILED
        try:
            status = await self._post(app, report, call)
            outcome = CallOutcome.DELIVERED if 200 <= status < 300 else CallOutcome.FAILED
            problem = f"status {status}"
        except TimeoutError:
            problem = f"no answer within {EVENT_TIMEOUT:.0f} seconds"
        except WebhookFailed as failed:
            problem = str(failed)
        APP_EVENTS.labels(app.id, outcome).inc()
        if outcome is not CallOutcome.DELIVERED:
            log.warning("app event not delivered", app=app.id, attempt=call.attempt, reason=problem)
        return outcome

    def _app(self, report: ReportedLogin) -> App | None:
        """Return the app if it still is the same app, and has a URL for events."""
        app = self._apps.get(report.app)
        if app is None or app.incarnation != report.incarnation or not app.events_url:
            return None
        return app

    async def _post(self, app: App, report: ReportedLogin, call: DeferredCall) -> int:
        """Return the status of the answer. Raises TimeoutError or WebhookFailed."""
        signing_secrets = self._secrets.webhook_secrets(app.id)
        if not signing_secrets:
            raise WebhookFailed(
                f"the app has no webhook secret: scan-login app rotate-webhook-secret {app.id}"
            )
        data = {
            "login_id": report.login_id,
            "subject": report.subject,
            "app": report.app,
            "at": int(report.at),
        }
        request = sign(
            signing_secrets,
            type="login.reported",
            data=data,
            now=self._clock(),
            message_id=f"msg_{call.id}",
        )
        assert app.events_url is not None, "apps without a URL get no events"
        async with asyncio.timeout(EVENT_TIMEOUT):
            return (await self._client.post(app.events_url, request)).status
