"""Metrics of login policies."""

from __future__ import annotations

from broker.infrastructure.observability.metrics import Counter

POLICY_ANSWERS = Counter("scanlogin_policy_answers", "Answers of the login policy", ["outcome"])
