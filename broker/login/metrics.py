"""Metrics of logins."""

from __future__ import annotations

from functools import lru_cache

from broker.infrastructure.observability.metrics import Counter, Gauge

_LOGINS = Counter("scanlogin_logins", "Logins that have come to a state", ["app", "state"])

BUS_RESUBSCRIBES = Counter(
    "scanlogin_bus_deaf", "Times that this instance heard nothing and listened afresh"
)

REDELIVERIES = Counter("scanlogin_token_redeliveries", "Tokens issued again")

RECONCILED_CHANGES = Counter(
    "scanlogin_news_found", "Changes that the state told and no notice had"
)

WAITING_BROWSERS = Gauge(
    "scanlogin_waiting_browsers", "Browsers that wait at this instance for a phone"
)


@lru_cache(maxsize=1024)
def login_counter(app: str, state: str) -> Counter:
    """Counts logins of one app that have come to one state."""
    return _LOGINS.labels(app, state)
