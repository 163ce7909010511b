"""Repeats callbacks with the messages of clients, for all APIs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from broker.tunnels.callback_sender import BackendGone, CallbackKind, CallbackPaused
from broker.tunnels.model import Tunnel
from broker.tunnels.ports import CallbackFailed

log = structlog.get_logger()

T = TypeVar("T")

MESSAGE_DELAYS = (0.5, 2.0, 8.0)
"""Seconds before the second, third and fourth attempt."""


async def send_with_repeats(
    send: Callable[[], Awaitable[T]],
    *,
    is_idempotent: bool,
    may_repeat: Callable[[], Awaitable[bool]] | None = None,
) -> T:
    """Send a callback, and repeat it after `MESSAGE_DELAYS`.

    send: makes one attempt.
    is_idempotent: whether the backend detects a repeat. Others get one only if they have not
        received the callback.
    may_repeat: called before each repeat. False gives the callback up.
    Raises CallbackFailed of the last attempt. A callback that was never sent is not repeated.
    """
    was_sent = False
    for delay in (*MESSAGE_DELAYS, None):
        try:
            return await send()
        except CallbackFailed as failed:
            was_sent = was_sent or not isinstance(failed, CallbackPaused)
            is_repeatable = was_sent and _is_repeatable(failed, is_idempotent)
            if delay is None or not is_repeatable:
                raise
            last = failed
        await asyncio.sleep(delay)
        if may_repeat is not None and not await may_repeat():
            raise last
    raise AssertionError("the last attempt returns or raises")


def _is_repeatable(failed: CallbackFailed, is_idempotent: bool) -> bool:
    if isinstance(failed, CallbackPaused):
        return True
    return failed.retryable or (is_idempotent and not isinstance(failed, BackendGone))


def log_failure(kind: CallbackKind, tunnel: Tunnel, failed: CallbackFailed) -> None:
    if not isinstance(failed, CallbackPaused):
        log.warning(
            "tunnel callback failed",
            app=tunnel.app,
            type=kind.type,
            tunnel_id=tunnel.id,
            reason=str(failed),
        )
