"""Metrics of logins."""

from __future__ import annotations

from functools import lru_cache

from broker.infrastructure.observability.metrics import Counter, Gauge

_LOGINS = Counter("scanlogin_logins", "Logins by state", ["app", "state"])

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

WAITING_BROWSERS = Gauge("scanlogin_waiting_browsers", "Browsers that wait at this instance")


@lru_cache(maxsize=1024)
def login_counter(app: str, state: str) -> Counter:
    """Return the counter of the logins of one app that have reached one state."""
    return _LOGINS.labels(app, state)
