"""The endpoint by which a phone registers with an invitation."""

from __future__ import annotations

from broker.infrastructure.api.schema import RequestModel, SecretField


class RegisterRequest(RequestModel):
    invitation: SecretField
