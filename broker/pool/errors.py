"""Errors of pictures."""

from __future__ import annotations

from broker.errors import BrokerError, Unavailable


class PictureNotFound(BrokerError):
    error, status = "invalid_request", 404
    description = "there is no picture of a code under this path"


class PicturesUnavailable(Unavailable):
    """The store of pictures does not do it.  reason: why, for the operator alone."""

    description = "the pictures of codes cannot be reached just now; try again"

    def __init__(self, reason: str, *, retryable: bool) -> None:
        super().__init__()
        self.reason = reason
        self.retryable = retryable
