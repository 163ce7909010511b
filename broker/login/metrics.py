"""Metrics of logins."""

from __future__ import annotations

from functools import lru_cache

from broker.infrastructure.observability.metrics import (
    Counter,
    Gauge,
    Number,
    Tally,
    Timer,
)

_LOGINS = Tally("scanlogin_logins", "Logins by state", ["app", "state"])

REDELIVERIES = Counter("scanlogin_token_redeliveries", "Tokens that were issued again")

RECONCILED_CHANGES = Counter(
    "scanlogin_news_found", "Changes found by reading the state, without a notice"
)

CODES_SHARED = Counter(
    "scanlogin_codes_shared", "Logins with codes that many people scanned", ["app"]
)

WRONG_ANSWERS = Counter(
    "scanlogin_match_wrong_answers", "Wrong answers to the match of a login", ["app", "kind"]
)

_STEPS = Timer(
    "scanlogin_login_seconds",
    "Seconds between the steps of logins",
    "step",
    (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0),
)

BEGIN_SCAN = _STEPS.labels("begin_scan")

SCAN_CONFIRM = _STEPS.labels("scan_confirm")

CONFIRM_PUSH = _STEPS.labels("confirm_push")

PUSH_REDEEM = _STEPS.labels("push_redeem")

WAITING_BROWSERS = Number()

Gauge("scanlogin_waiting_browsers", "Browsers that wait at this instance").set_function(
    lambda: WAITING_BROWSERS.value
)


@lru_cache(maxsize=1024)
def login_counter(app: str, state: str) -> Number:
    """Return the counter of the logins of one app that have reached one state."""
    return _LOGINS.labels(app, state)
