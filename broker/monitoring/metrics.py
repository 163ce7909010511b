"""Metrics of this instance, its state and its keys."""

from __future__ import annotations

from broker.infrastructure.observability.metrics import Gauge

READY = Gauge("scanlogin_ready", "1 while this instance accepts browsers, else 0")

STATE_EVICTS = Gauge("scanlogin_state_evicts", "1 while Redis may evict keys, else 0")

CLOCK_OFFSET = Gauge(
    "scanlogin_clock_offset_seconds", "Clock of Redis minus clock of this host, in seconds"
)

KEYS_DIFFER = Gauge(
    "scanlogin_keys_differ", "1 while another instance has other keys, else 0", ["keys"]
)
