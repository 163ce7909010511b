"""Metrics of tunnels."""

from __future__ import annotations

from functools import lru_cache

from broker.infrastructure.observability.metrics import Counter, Gauge, Histogram

TUNNELS = Gauge("scanlogin_tunnels", "Tunnels with a socket at this instance", ["app", "state"])

REPLAYED = Counter("scanlogin_tunnel_replayed", "Messages that were sent again", ["app"])

DROPPED = Counter(
    "scanlogin_tunnel_dropped", "Tunnel sockets that the broker dropped", ["app", "reason"]
)

_CALLBACKS = Counter(
    "scanlogin_tunnel_callbacks",
    "Attempts to deliver callbacks of tunnels by outcome",
    ["app", "type", "outcome"],
)

_CALLBACK_SECONDS = Histogram(
    "scanlogin_tunnel_callback_seconds",
    "Seconds until backends answer callbacks of tunnels",
    ["app", "type"],
    buckets=(0.005, 0.02, 0.1, 0.5, 2.0, 10.0),
)


@lru_cache(maxsize=1024)
def callback_counter(app: str, type: str, outcome: str) -> Counter:
    return _CALLBACKS.labels(app, type, outcome)


@lru_cache(maxsize=1024)
def callback_timer(app: str, type: str) -> Histogram:
    return _CALLBACK_SECONDS.labels(app, type)
