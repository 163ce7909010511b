"""Which failures of a callback are repeated, for both APIs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from broker.tunnels import callback_repeats
from broker.tunnels.callback_repeats import send_with_repeats
from broker.tunnels.callback_sender import BackendGone, CallbackPaused
from broker.tunnels.ports import CallbackFailed

FAILED, UNSENT = CallbackFailed("status 500"), CallbackFailed("no connection", retryable=True)
PAUSED, GONE = CallbackPaused("too early"), BackendGone("status 410")


@pytest.fixture(autouse=True)
def _no_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callback_repeats, "MESSAGE_DELAYS", (0, 0, 0))


class Attempts:
    """Fails with each of `failures`, and then succeeds."""

    def __init__(self, failures: Sequence[CallbackFailed]) -> None:
        self.failures = list(failures)
        self.count = 0

    async def __call__(self) -> str:
        self.count += 1
        if self.failures:
            raise self.failures.pop(0)
        return "answer"


@pytest.mark.parametrize(
    ("is_idempotent", "failures"),
    [
        (True, [FAILED, UNSENT, FAILED]),
        (True, [FAILED, PAUSED, PAUSED]),
        (False, [UNSENT, UNSENT, UNSENT]),
        (False, [UNSENT, PAUSED, UNSENT]),
    ],
)
async def test_repeatable_failures_are_repeated(
    is_idempotent: bool, failures: list[CallbackFailed]
) -> None:
    assert await send_with_repeats(Attempts(failures), is_idempotent=is_idempotent) == "answer"


@pytest.mark.parametrize(
    ("is_idempotent", "failures", "count"),
    [
        (True, [PAUSED], 1),
        (True, [FAILED, GONE], 2),
        (True, [FAILED] * 4, 4),
        (False, [PAUSED], 1),
        (False, [FAILED], 1),
        (False, [UNSENT, FAILED], 2),
        (False, [UNSENT, GONE], 2),
        (False, [UNSENT] * 4, 4),
    ],
)
async def test_other_failures_give_the_callback_up(
    is_idempotent: bool, failures: list[CallbackFailed], count: int
) -> None:
    attempts = Attempts(failures)

    with pytest.raises(CallbackFailed) as raised:
        await send_with_repeats(attempts, is_idempotent=is_idempotent)

    assert raised.value is failures[-1]
    assert attempts.count == count


async def test_repeat_needs_permission() -> None:
    attempts = Attempts([FAILED])

    async def may_repeat() -> bool:
        return False

    with pytest.raises(CallbackFailed):
        await send_with_repeats(attempts, is_idempotent=True, may_repeat=may_repeat)

    assert attempts.count == 1
