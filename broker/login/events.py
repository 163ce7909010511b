"""Events that a waiting browser receives, in one table.

An event is sent if its rank is higher than that of the last event that was sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from broker.login.model import Login, Reason, State


class BrowserEvent(NamedTuple):
    """A row of the table.

    state: the state that the event reports; None if it reports no state.
    sent_as: the name that the browser receives; empty if it is `name`.
    flag: a field that the browser receives as true; empty for none.
    is_repeatable: whether the event is also sent if it was the last one.
    is_final: whether no event can follow.
    """

    name: str
    state: State | None
    rank: int
    is_repeatable: bool = False
    is_final: bool = False
    sent_as: str = ""
    flag: str = ""


NO_EVENT = ""
"""In place of the last event of a browser that has received none."""

SCANNED_EVENT = "login-scanned"

MATCH_EVENT = "login-scanned-match"
"""A phone has scanned a login that needs a match. The browser receives `SCANNED_EVENT` with a flag
and requests what it has to show; the number is in no notice."""

UNREGISTERED_EVENT = "login-unregistered"
"""The directory does not know the user who confirmed. The login stays scanned."""

CONFIRMED_EVENT = "login-confirmed"

DENIED_EVENT = "login-denied"

REFUSED_EVENT = "login-refused"
"""The broker has denied the login. The browser receives `DENIED_EVENT` with a flag."""

EXPIRED_EVENT = "login-expired"

# Repeatable events: a user may confirm several times before registering, and a phone repeats
# a confirm that a failed Redis primary has lost.
EVENTS: Mapping[str, BrowserEvent] = {
    event.name: event
    for event in (
        BrowserEvent(NO_EVENT, None, rank=0),
        BrowserEvent(SCANNED_EVENT, State.SCANNED, rank=1),
        BrowserEvent(MATCH_EVENT, None, rank=1, sent_as=SCANNED_EVENT, flag="match"),
        BrowserEvent(UNREGISTERED_EVENT, None, rank=2, is_repeatable=True),
        BrowserEvent(CONFIRMED_EVENT, State.CONFIRMED, rank=3, is_repeatable=True),
        BrowserEvent(DENIED_EVENT, State.DENIED, rank=4, is_final=True),
        BrowserEvent(
            REFUSED_EVENT, None, rank=4, is_final=True, sent_as=DENIED_EVENT, flag="refused"
        ),
        BrowserEvent(EXPIRED_EVENT, State.EXPIRED, rank=4, is_final=True),
    )
}

EVENT_BY_STATE: Mapping[State, str] = {
    event.state: event.name for event in EVENTS.values() if event.state is not None
}

MOVED_EVENT = "login-moved"
"""Sent to an instance when another instance has taken over the login. Not for the browser."""

NOTICES = frozenset({*EVENTS, MOVED_EVENT}) - {NO_EVENT}
"""The events of notices about logins."""


def current_event(login: Login | None) -> str:
    """Return the last event that the browser of a login should have received.

    login: in its present state; None if it is no longer stored.
    """
    if login is None:
        return EXPIRED_EVENT
    if login.state is State.SCANNED:
        return _scanned_event(login)
    if login.state is State.DENIED and login.is_refused:
        return REFUSED_EVENT
    if login.state is State.CANCELLED and login.reason == Reason.ADMIN:
        return EXPIRED_EVENT
    return EVENT_BY_STATE.get(login.state, NO_EVENT)


def _scanned_event(login: Login) -> str:
    if login.unregistered:
        return UNREGISTERED_EVENT
    return SCANNED_EVENT if login.match is None else MATCH_EVENT


def is_later_event(event: str, last_sent: str) -> bool:
    return EVENTS[event].rank > EVENTS[last_sent].rank


def is_new_event(event: str, last_sent: str) -> bool:
    """Whether to send `event` after `last_sent`. False for an unknown event."""
    if event not in EVENTS:
        return False
    return is_later_event(event, last_sent) or (event == last_sent and EVENTS[event].is_repeatable)
