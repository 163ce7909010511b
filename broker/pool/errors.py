"""Errors of pictures."""

from __future__ import annotations

from broker.errors import BrokerError, Unavailable


class PictureNotFound(BrokerError):
    error, status = "invalid_request", 404
    description = "picture not found"


class PicturesUnavailable(Unavailable):
    """The picture store cannot be used. `reason` is logged and never sent to clients."""

    description = "the picture store is unavailable; try again"

    def __init__(self, reason: str, *, retryable: bool) -> None:
        super().__init__()
        self.reason = reason
        self.retryable = retryable


class PoolNotFound(BrokerError):
    error, status = "not_found", 404
    description = "no app with this id has a pool: set its code_source to `pool` first"


class FillRunning(BrokerError):
    error, status = "conflict", 409
    description = "this instance is filling the pool already; wait until it has finished"
