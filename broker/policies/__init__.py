"""Login policies: each judges whether a scan may come from a phishing attempt."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from urllib.parse import urlsplit

from broker.infrastructure.clock import Clock
from broker.infrastructure.settings import Settings
from broker.login.ports import LoginPolicy
from broker.policies.settings import PolicySettings

POLICIES: Mapping[str, str] = {
    "built-in": "broker.policies.built_in",
    "https": "broker.policies.webhook",
    "http": "broker.policies.webhook",
}
"""The module of each policy, by name or by the scheme of its URL."""


def open_policy(settings: Settings, clock: Clock) -> LoginPolicy | None:
    """Return the policy that the settings name, not yet connected; None if it is off.

    Raises ValueError for a GEO file that cannot be read.
    """
    value = settings[PolicySettings].policy
    if value == "off":
        return None
    module = import_module(POLICIES[urlsplit(value).scheme or value])
    policy: LoginPolicy = module.open_policy(settings, clock)
    return policy
