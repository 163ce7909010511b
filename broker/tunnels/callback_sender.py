"""Sends callbacks to the URLs of backends, one attempt each.

turn of the app ──▶ not paused ──▶ verified ──▶ signed POST ──▶ answer
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

import structlog

from broker.apps.model import App
from broker.apps.ports import WebhookSecrets
from broker.errors import Unavailable
from broker.infrastructure.background import spawn
from broker.infrastructure.clock import Clock
from broker.infrastructure.fair_queue import FairQueue
from broker.infrastructure.outbound.circuit_breaker import RESET_TIMEOUT, CircuitBreaker
from broker.infrastructure.outbound.http import HTTPResponse
from broker.infrastructure.outbound.keep_alive import KeepAliveClient
from broker.infrastructure.outbound.webhook import (
    SignedRequest,
    WebhookAnswer,
    WebhookFailed,
    sign,
)
from broker.tunnels.callback_answers import GONE, read_verified
from broker.tunnels.metrics import callback_counter, callback_timer
from broker.tunnels.ports import CallbackFailed

log = structlog.get_logger()

T = TypeVar("T")

IN_FLIGHT_MAX = 64
"""Callbacks of one app in flight."""

TURN_TIMEOUT = 10.0
"""Seconds that a callback waits for its app's turn."""

GONE_PAUSE = 300.0
"""Seconds without callbacks after the status `GONE`."""

TARGETS_MAX = 1024
"""URLs whose condition is remembered. A URL that is used again after others is verified again."""


class CallbackPaused(CallbackFailed):
    """Nothing was sent: it is too early for an attempt, or there is no receiver."""


class BackendGone(CallbackFailed):
    """The backend has answered `GONE`."""


class CallbackKind(NamedTuple):
    """type: without the prefix `tunnel.`.  timeout: seconds for an answer.

    max_bytes: of the answer.
    """

    type: str
    timeout: float
    max_bytes: int = 16 * 1024


VERIFY = CallbackKind("verify", 3.0)


class Callback(NamedTuple):
    """id: the `webhook-id`.  caller: see `CircuitBreaker.record_failure`."""

    id: str
    data: Mapping[str, object]
    caller: Hashable


class CallbackFormat(Protocol):
    """Builds the requests of one API.

    is_verified: whether a URL gets callbacks only after it has answered `tunnel.verify`.
    """

    is_verified: bool

    def build(self, app: App, kind: CallbackKind, callback: Callback) -> SignedRequest:
        """Raises WebhookFailed."""


class NativeFormat:
    """Standard Webhooks.

    clock: Unix time in seconds.
    """

    is_verified = True

    def __init__(self, secrets: WebhookSecrets, clock: Clock) -> None:
        self._secrets = secrets
        self._clock = clock

    def build(self, app: App, kind: CallbackKind, callback: Callback) -> SignedRequest:
        try:
            signing_secrets = self._secrets.webhook_secrets(app.id)
        except Unavailable as error:  # the secret cannot be decrypted
            raise WebhookFailed(str(error)) from None
        if not signing_secrets:
            raise WebhookFailed(
                f"the app has no webhook secret: scan-login app rotate-webhook-secret {app.id}"
            )
        return sign(
            signing_secrets,
            type=f"tunnel.{kind.type}",
            data=callback.data,
            now=self._clock(),
            message_id=callback.id,
        )


class CallbackTarget:
    """The condition of one URL of an app."""

    def __init__(self, app: App, url: str, clock: Callable[[], float]) -> None:
        self.app = app
        self.url = url
        self.verification: asyncio.Task[None] | None = None
        self._clock = clock
        self._breaker = CircuitBreaker(clock)
        self._paused_until = 0.0

    def allows_request(self) -> bool:
        return self._clock() >= self._paused_until and self._breaker.allows_request()

    @property
    def is_paused(self) -> bool:
        return self._clock() < self._paused_until or self._breaker.is_waiting

    def pause(self) -> None:
        """Allow no request for `GONE_PAUSE` seconds."""
        self._paused_until = self._clock() + GONE_PAUSE

    def record_success(self) -> None:
        if self._breaker.record_success():
            log.warning("circuit breaker closed", target="tunnel callbacks", app=self.app.id)

    def record_failure(self, caller: Hashable, reason: str) -> None:
        if self._breaker.record_failure(caller):
            log.error(
                "circuit breaker opened",
                target="tunnel callbacks",
                app=self.app.id,
                reason=reason,
                retry_in=RESET_TIMEOUT,
            )


def callback_turns() -> FairQueue:
    """Return turns with which an app has at most `IN_FLIGHT_MAX` callbacks in flight."""
    return FairQueue(share=IN_FLIGHT_MAX, wait=TURN_TIMEOUT)


class CallbackSender:
    """Sends signed callbacks.

    An app has at most `IN_FLIGHT_MAX` callbacks in flight; further ones wait for a turn. A URL
    of a verified API gets its first callback after it has answered. A URL that keeps failing gets
    one request in `RESET_TIMEOUT` seconds, and one that answers `GONE` none in `GONE_PAUSE`.

    turns: from `callback_turns`. The senders of all APIs share them.
    monotonic: seconds.
    """

    def __init__(
        self,
        *,
        format: CallbackFormat,
        client: KeepAliveClient,
        turns: FairQueue,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._format = format
        self._client = client
        self._monotonic = monotonic
        self._turns = turns
        self._targets: OrderedDict[tuple[str, str], CallbackTarget] = OrderedDict()

    async def send(
        self,
        app: App,
        url: str,
        kind: CallbackKind,
        callback: Callback,
        read: Callable[[HTTPResponse], WebhookAnswer[T]],
    ) -> T:
        """Send a callback once and return its answer.

        read: raises WebhookFailed for an invalid answer.
        Raises CallbackFailed, and CallbackPaused if nothing was sent. Both are counted.
        """
        target = self._target(app, url)
        try:
            await self._turns.acquire(app.id)
        except TimeoutError:
            raise self._paused(target, kind, "too many callbacks in flight") from None
        try:
            if not target.allows_request():
                raise self._paused(target, kind, "the backend has failed too often")
            if self._format.is_verified:
                await self._verified(target)
            return await self._attempt(target, kind, callback, read)
        finally:
            self._turns.release(app.id)

    async def verify(self, app: App, url: str) -> None:
        """Send `tunnel.verify`, unless the URL has answered it. Raises CallbackFailed."""
        await self._verified(self._target(app, url))

    def is_paused(self, app: App, url: str) -> bool:
        """Return whether the URL gets no callbacks now."""
        target = self._targets.get((app.id, url))
        return target is not None and target.is_paused

    def _target(self, app: App, url: str) -> CallbackTarget:
        key = (app.id, url)
        target = self._targets.get(key)
        if target is None:
            target = self._targets[key] = CallbackTarget(app, url, self._monotonic)
            if len(self._targets) > TARGETS_MAX:
                self._targets.popitem(last=False)
        else:
            self._targets.move_to_end(key)
        return target

    async def _verified(self, target: CallbackTarget) -> None:
        """Verify the URL once; callbacks that come meanwhile wait. Raises CallbackFailed."""
        if target.verification is None:
            work = self._verify(target)
            target.verification = spawn("tunnel verify", work, expected=CallbackFailed)
        await asyncio.shield(target.verification)

    async def _verify(self, target: CallbackTarget) -> None:
        try:
            await self._send_challenge(target)
        except BaseException:
            target.verification = None  # the next callback verifies the URL again
            raise

    async def _send_challenge(self, target: CallbackTarget) -> None:
        challenge = secrets.token_urlsafe(32)
        data = {"app": target.app.id, "challenge": challenge}
        callback = Callback(f"msg_{secrets.token_urlsafe(16)}", data, caller=None)
        await self._attempt(target, VERIFY, callback, partial(read_verified, challenge=challenge))

    async def _attempt(
        self,
        target: CallbackTarget,
        kind: CallbackKind,
        callback: Callback,
        read: Callable[[HTTPResponse], WebhookAnswer[T]],
    ) -> T:
        try:
            answer = read(await self._post(target, kind, callback))
        except TimeoutError:
            failed = CallbackFailed(f"no answer within {kind.timeout:g} seconds")
        except WebhookFailed as error:
            failed = CallbackFailed(str(error), retryable=error.retryable)
        except BackendGone as gone:
            target.pause()
            failed = gone
        else:
            callback_counter(target.app.id, kind.type, answer.outcome).inc()
            target.record_success()
            return answer.value
        callback_counter(target.app.id, kind.type, "failed").inc()
        target.record_failure(callback.caller, str(failed))
        raise failed

    async def _post(
        self, target: CallbackTarget, kind: CallbackKind, callback: Callback
    ) -> HTTPResponse:
        """Raises TimeoutError, WebhookFailed or BackendGone."""
        request = self._format.build(target.app, kind, callback)
        began = time.perf_counter()
        try:
            response = await self._client.post(
                target.url, request, max_bytes=kind.max_bytes, seconds=kind.timeout
            )
        finally:
            seconds = time.perf_counter() - began
            callback_timer(target.app.id, kind.type).observe(seconds)
        if response.status == GONE:
            raise BackendGone(f"status {GONE}: no callbacks for {GONE_PAUSE:.0f} seconds")
        return response

    def _paused(self, target: CallbackTarget, kind: CallbackKind, reason: str) -> CallbackPaused:
        callback_counter(target.app.id, kind.type, "paused").inc()
        return CallbackPaused(reason)
