"""The broker's public keys: how long they are used, and when to fetch them again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import jwt

KEYS_TTL = 300.0
"""Seconds between two fetches; `Cache-Control` of the broker's key set."""

STALE_TTL = 24 * 3600.0
"""Seconds for which keys are used while they cannot be fetched again."""

UNKNOWN_KEY_INTERVAL = 30.0
"""Seconds between two fetches for an unknown `kid`, because an attacker can invent kids."""

RETRY_DELAY = 1.0
"""Seconds after a failed fetch."""


class KeyCache:
    """The keys of a broker. Each method gets the time of a monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._fetched_at = -math.inf
        self._failed_at: float | None = None
        self._refetched_at = -math.inf

    @property
    def is_failing(self) -> bool:
        """Whether the last fetch has failed."""
        return self._failed_at is not None

    def keys(self, now: float) -> Mapping[str, jwt.PyJWK]:
        """Return the keys by `kid`; none if they are too old."""
        return self._keys if now - self._fetched_at < STALE_TTL else {}

    def is_due(self, now: float) -> bool:
        """Return whether to fetch the keys, for any token."""
        if self._failed_at is not None:
            return now - self._failed_at >= RETRY_DELAY
        return now - self._fetched_at >= KEYS_TTL

    def allow_refetch(self, now: float) -> bool:
        """Return whether to fetch the keys for an unknown `kid`. The caller must then do so."""
        if self.is_failing or now - self._refetched_at < UNKNOWN_KEY_INTERVAL:
            return False
        self._refetched_at = now
        return True

    def store(self, keys: Mapping[str, jwt.PyJWK], now: float) -> None:
        self._keys = keys
        self._fetched_at = now
        self._failed_at = None

    def fail(self, now: float) -> None:
        """Note that a fetch has failed. The stored keys stay."""
        self._failed_at = now


def parse_keys(body: bytes) -> dict[str, jwt.PyJWK]:
    """Return the keys of a key set (RFC 7517) by `kid`. Raises ValueError.

    Keys of unknown types are left out.
    """
    try:
        key_set = json.loads(body)
        if not isinstance(key_set, dict) or not isinstance(key_set.get("keys"), list):
            raise ValueError("the answer is not a key set")
        usable = jwt.PyJWKSet.from_dict(key_set).keys
    except (jwt.PyJWTError, RecursionError, AttributeError) as error:
        raise ValueError(f"the key set is malformed: {error}") from error
    return {key.key_id: key for key in usable if key.key_id}
