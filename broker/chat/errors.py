"""Errors of chat."""

from __future__ import annotations

from broker.errors import BrokerError, InvalidRequest, RateLimited, Unavailable


class ChatDenied(BrokerError):
    """The person may not do this in the room. retry_after: seconds until a restriction ends."""

    error, status = "access_denied", 403
    description = "you may not do this in the room"

    def __init__(self, description: str | None = None, *, retry_after: int | None = None) -> None:
        super().__init__(description)
        self.retry_after = retry_after


class ChatDisabled(BrokerError):
    error, status = "access_denied", 403
    description = "this app has no chat rooms; the operator sets `rooms` of the app"


class NotAMember(BrokerError):
    error, status = "access_denied", 403
    description = "you are not in the room; join it first"


class UnknownRoom(BrokerError):
    error, status = "unknown_room", 404
    description = "the app has no room with this name"


class InvalidResume(BrokerError):
    error, status = "invalid_grant", 400
    counts_as_guess = True
    description = "the resume secret is unknown or has ended; log in again"


class UnknownMessage(InvalidRequest):
    description = "offset: the room has no message with this offset"


class TooManyRooms(RateLimited):
    description = "too many rooms; leave one first"


class TooManyConnections(RateLimited):
    description = "too many connections of this person; close one first"


class AdmissionUnavailable(Unavailable):
    description = "the site does not answer whether you may join; try again"
