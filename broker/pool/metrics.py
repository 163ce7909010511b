"""Metrics of code pools."""

from __future__ import annotations

from broker.infrastructure.observability.metrics import Counter, Gauge

POOL_CODES = Gauge("scanlogin_pool_codes", "Pool codes by state", ["app", "state"])

POOL_LOW = Gauge(
    "scanlogin_pool_low", "1 while the free codes last less than 20 seconds, else 0", ["app"]
)

POOL_EMPTY = Counter("scanlogin_pool_empty", "Logins that found no free code", ["app"])

POOL_DRAWN = Counter("scanlogin_pool_drawn", "Codes drawn for a pool", ["app"])
