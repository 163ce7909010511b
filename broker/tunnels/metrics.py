"""Metrics of tunnels."""

from __future__ import annotations

from broker.infrastructure.observability.metrics import Counter, Gauge

TUNNELS = Gauge("scanlogin_tunnels", "Tunnels with a socket at this instance", ["app", "state"])

REPLAYED = Counter("scanlogin_tunnel_replayed", "Messages that were sent again", ["app"])

DROPPED = Counter(
    "scanlogin_tunnel_dropped", "Tunnel sockets that the broker dropped", ["app", "reason"]
)
