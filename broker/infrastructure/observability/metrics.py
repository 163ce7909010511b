"""Metrics in Prometheus' text format.

Each module defines its metrics. No label contains a login, a scene, a session or an address.
"""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest

__all__ = ["CONTENT_TYPE", "Counter", "Gauge", "Histogram", "render"]

CONTENT_TYPE = CONTENT_TYPE_LATEST


def render() -> bytes:
    """Return all metrics."""
    return generate_latest()
