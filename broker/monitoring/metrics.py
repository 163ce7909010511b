"""Metrics of this instance, its state and its keys."""

from __future__ import annotations

from broker.infrastructure.observability.metrics import Gauge

READY = Gauge("scanlogin_ready", "1 while this instance accepts browsers, else 0")

BUILD_INFO = Gauge(
    "scanlogin_build_info", "1, with the versions of this instance", ["version", "python", "engine"]
)

STATE_UP = Gauge("scanlogin_state_up", "1 while the state can be reached, else 0")

SIGNING_KEY_AGE = Gauge(
    "scanlogin_signing_key_age_seconds", "Seconds since the signing keys were rotated"
)

STATE_EVICTS = Gauge("scanlogin_state_evicts", "1 while Redis may evict keys, else 0")

CLOCK_OFFSET = Gauge(
    "scanlogin_clock_offset_seconds", "Clock of Redis minus clock of this host, in seconds"
)

KEYS_DIFFER = Gauge(
    "scanlogin_keys_differ", "1 while another instance has other keys, else 0", ["keys"]
)
