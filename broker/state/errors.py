"""Errors of the state."""

from __future__ import annotations

from broker.errors import Unavailable


class StateCapacityExceeded(Unavailable):
    description = "too many logins are under way; try again"


class PoolCapacityExceeded(Unavailable):
    description = "the state has no room for more codes"
