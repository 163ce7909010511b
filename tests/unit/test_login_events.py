"""The table of browser events."""

from __future__ import annotations

from itertools import product

import pytest

from broker.login.events import EVENT_BY_STATE, EVENTS, NO_EVENT, current_event, is_new_event
from broker.login.model import OPEN, State
from tests.support.builders import ALICE, Clock, a_login


@pytest.mark.parametrize("state", State)
def test_current_event_follows_the_state(clock: Clock, state: State) -> None:
    login = a_login(clock, state=state, phone=ALICE)

    assert current_event(login) == EVENT_BY_STATE.get(state, NO_EVENT)


def test_unregistered_login_has_its_event(clock: Clock) -> None:
    login = a_login(clock, state=State.SCANNED, phone=ALICE, unregistered=True)

    assert current_event(login) == "login-unregistered"


@pytest.mark.parametrize("reason", ["policy: new country", "shared", "blocked"])
def test_refused_login_has_its_event(clock: Clock, reason: str) -> None:
    login = a_login(clock, state=State.DENIED, phone=ALICE, reason=reason)

    assert current_event(login) == "login-refused"


@pytest.mark.parametrize("reason", ["", "match"])
def test_wrong_match_has_the_event_of_a_denial(clock: Clock, reason: str) -> None:
    login = a_login(clock, state=State.DENIED, phone=ALICE, reason=reason)

    assert current_event(login) == "login-denied"


def test_deleted_login_counts_as_expired() -> None:
    assert current_event(None) == "login-expired"


@pytest.mark.parametrize("name", EVENTS)
def test_only_repeatable_event_is_sent_twice(name: str) -> None:
    assert is_new_event(name, name) == EVENTS[name].is_repeatable


@pytest.mark.parametrize(("event", "last_sent"), [*product(EVENTS, EVENTS)])
def test_no_new_event_follows_a_final_event(event: str, last_sent: str) -> None:
    assert not (EVENTS[last_sent].is_final and is_new_event(event, last_sent))


def test_final_events_report_finished_states() -> None:
    sent = [event.sent_as or event.name for event in EVENTS.values() if event.is_final]
    final = {EVENTS[name].state for name in sent}

    assert final == EVENT_BY_STATE.keys() - OPEN


def test_unknown_event_is_not_sent() -> None:
    assert not is_new_event("login-renamed", NO_EVENT)
