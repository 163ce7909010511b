"""Metrics of the OpenID Connect provider."""

from __future__ import annotations

from broker.infrastructure.observability.metrics import Counter

REUSED = Counter("scanlogin_refresh_reused", "Refresh tokens that were used again", ["app"])

BACKCHANNEL = Counter(
    "scanlogin_backchannel", "Attempts of back-channel logouts by outcome", ["app", "outcome"]
)

SIGN_INS = Counter("scanlogin_signins", "Sign-in sessions that began, by their first app", ["app"])
