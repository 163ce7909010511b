"""Browser events and their order."""

from __future__ import annotations

from collections.abc import Mapping

from broker.login.model import Login, State

EVENT_BY_STATE: Mapping[State, str] = {
    State.SCANNED: "login-scanned",
    State.CONFIRMED: "login-confirmed",
    State.DENIED: "login-denied",
    State.EXPIRED: "login-expired",
}
"""What the browser hears when its login has come to a state."""

MOVED_EVENT = "login-moved"
"""What an instance hears when another has taken the login over; its browser hears nothing."""

UNREGISTERED_EVENT = "login-unregistered"
"""What it hears when the directory does not know who confirmed: the login stays scanned."""

FINAL_EVENTS = frozenset({EVENT_BY_STATE[State.DENIED], EVENT_BY_STATE[State.EXPIRED]})
"""After these nothing more can come."""

EVENT_RANK: Mapping[str, int] = {
    "": 0,
    EVENT_BY_STATE[State.SCANNED]: 1,
    UNREGISTERED_EVENT: 2,
    EVENT_BY_STATE[State.CONFIRMED]: 3,
    EVENT_BY_STATE[State.DENIED]: 4,
    EVENT_BY_STATE[State.EXPIRED]: 4,
}
"""Events in the order in which one login may bring them; "" is none yet."""

REPEATABLE_EVENTS = frozenset({UNREGISTERED_EVENT, EVENT_BY_STATE[State.CONFIRMED]})
"""Events that one login may bring twice, and each time it is said: a person tries to
confirm before being registered; a confirm that a failed master took with it is made
anew.  Any other is said once."""


def current_event(login: Login | None) -> str:
    """What a browser should have heard by now of a login; "" is nothing."""
    if login is None:
        return EVENT_BY_STATE[State.EXPIRED]
    if login.unregistered and login.state is State.SCANNED:
        return UNREGISTERED_EVENT
    return EVENT_BY_STATE.get(login.state, "")


def is_new_event(event: str, told: str) -> bool:
    """Whether a browser that was `told` one thing wants to hear `event`."""
    return EVENT_RANK.get(event, 0) > EVENT_RANK[told] or (
        event == told and event in REPEATABLE_EVENTS
    )
