"""Measures the steps of logins, by the clock of the state."""

from __future__ import annotations

from broker.login.metrics import BEGIN_SCAN, CONFIRM_PUSH, PUSH_REDEEM, SCAN_CONFIRM
from broker.login.model import Login, State


def observe_step(login: Login) -> None:
    """Measure the step that has led to the state of `login`."""
    if login.scanned_at is None:
        return  # an older version has stored the scan
    if login.state is State.SCANNED:
        BEGIN_SCAN.observe(max(0.0, login.scanned_at - login.began_at))
    elif login.state is State.CONFIRMED and login.confirmed_at is not None:
        SCAN_CONFIRM.observe(max(0.0, login.confirmed_at - login.scanned_at))


def observe_delivery(login: Login, *, pushed_at: float, now: float) -> None:
    """Measure the steps from the confirm to the first redeem.

    pushed_at: when the confirm was pushed to the browser.
    now: when the browser redeemed the login.
    """
    if login.confirmed_at is not None:
        CONFIRM_PUSH.observe(max(0.0, pushed_at - login.confirmed_at))
        PUSH_REDEEM.observe(max(0.0, now - pushed_at))
