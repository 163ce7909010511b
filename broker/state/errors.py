"""Errors of the state backends."""

from __future__ import annotations

from broker.errors import Unavailable


class StateCapacityExceeded(Unavailable):
    description = "too many logins are in progress; try again"


class PoolCapacityExceeded(Unavailable):
    description = "the state has no memory for more codes"
