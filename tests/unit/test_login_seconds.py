"""Times of the steps of logins, and the log line of their end."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import structlog

from broker.infrastructure.observability.metrics import Timer, render
from broker.login.errors import LoginExpired
from broker.login.metrics import BEGIN_SCAN, CONFIRM_PUSH, PUSH_REDEEM, SCAN_CONFIRM
from broker.login.step_times import observe_delivery
from tests.support.builders import ALICE, FIREFOX, Clock, LoginMethods, a_login

STEPS = (BEGIN_SCAN, SCAN_CONFIRM, CONFIRM_PUSH, PUSH_REDEEM)


def totals() -> list[float]:
    return [durations.total for durations in STEPS]


def spent(before: list[float]) -> list[float]:
    return [round(now - then, 6) for then, now in zip(before, totals(), strict=True)]


def ends(lines: list[structlog.typing.EventDict]) -> list[structlog.typing.EventDict]:
    return [line for line in lines if line["event"] == "login finished"]


async def test_steps_are_measured_across_instances(
    make_login_service: Callable[..., LoginMethods], clock: Clock
) -> None:
    one, two = make_login_service(instance="one"), make_login_service(instance="two")
    before = totals()

    new = await one.begin("shop", FIREFOX, has_socket=True)
    clock.time += 7
    await two.scan(new.login.scene, ALICE)
    clock.time += 3
    await two.confirm(new.login.id, ALICE)
    await two.confirm(new.login.id, ALICE)

    assert spent(before) == [7, 3, 0, 0]


def test_delivery_is_measured_from_confirm_to_redeem(clock: Clock) -> None:
    before = totals()

    observe_delivery(
        a_login(clock, confirmed_at=clock()), pushed_at=clock() + 0.25, now=clock() + 2
    )

    assert spent(before) == [0, 0, 0.25, 1.75]


async def test_finished_login_is_logged_once(login_service: LoginMethods, clock: Clock) -> None:
    new = await login_service.begin("shop", FIREFOX, has_socket=True)
    with structlog.testing.capture_logs() as lines:
        await login_service.scan(new.login.scene, ALICE)
        clock.time += 7.5
        await login_service.deny(new.login.id, ALICE)
        await login_service.deny(new.login.id, ALICE)

    assert ends(lines) == [
        {
            "event": "login finished",
            "log_level": "info",
            "app": "shop",
            "state": "denied",
            "login_id": new.login.id,
            "seconds": 7.5,
        }
    ]


async def test_expired_login_is_logged_once(login_service: LoginMethods, clock: Clock) -> None:
    new = await login_service.begin("shop", FIREFOX, has_socket=False)
    clock.time += 130
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            with pytest.raises(LoginExpired):
                await login_service.redeem(new.login.id, new.secret, app="shop")

    assert [(line["state"], line["seconds"]) for line in ends(lines)] == [("expired", 120)]


async def test_memory_of_expired_logins_is_bounded(
    login_service: LoginMethods, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.login.reader.EXPIRED_MAX", 10)
    clock.time += 130

    for number in range(30):
        login_service.reader.record_if_expired(
            a_login(clock, id=f"login-{number}", expires_at=clock())
        )

    assert len(login_service.reader._expired) == 10


def test_timer_counts_buckets_up_to_each_bound() -> None:
    timer = Timer("test_timer_seconds", "Seconds of this test", "step", (0.1, 1.0))
    durations = timer.labels("first")
    timer.labels("never")

    for seconds in (0.05, 0.1, 0.5, 7.0):
        durations.observe(seconds)

    text = render().decode()
    lines = [line for line in text.splitlines() if line.startswith("test_timer_seconds")]
    assert lines == [
        'test_timer_seconds_bucket{le="0.1",step="first"} 2.0',
        'test_timer_seconds_bucket{le="1.0",step="first"} 3.0',
        'test_timer_seconds_bucket{le="+Inf",step="first"} 4.0',
        'test_timer_seconds_count{step="first"} 4.0',
        'test_timer_seconds_sum{step="first"} 7.65',
    ]
