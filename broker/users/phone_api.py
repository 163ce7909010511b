"""The endpoint by which a phone registers with an invitation."""

from __future__ import annotations

from broker.infrastructure.api.schema import RequestModel, SecretField

REGISTRATIONS_PER_MINUTE = 30
"""Invitations that one user may send per minute: each queries the database."""


class RegisterRequest(RequestModel):
    invitation: SecretField
