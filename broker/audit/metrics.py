"""Metrics of the audit log's push."""

from __future__ import annotations

from broker.infrastructure.observability.metrics import Counter

_PUSHES = Counter(
    "scanlogin_audit_pushes", "Attempts to push entries of the audit log by outcome", ["outcome"]
)

DELIVERED, FAILED = _PUSHES.labels("delivered"), _PUSHES.labels("failed")
