"""Tests of the rules of a login. They need no event loop, clock or network."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from broker.identity.model import UserProfile
from broker.login import errors
from broker.login.model import OPEN, REDELIVERY_LIFETIME, Act, Login, State
from broker.login.rules import RULES, apply
from tests.support.builders import ALICE, BOB, Clock, a_login

ALICE_PROFILE, BOB_PROFILE = UserProfile(subject="alice"), UserProfile(subject="bob")
NOW = 1_000_000.0

OUTCOMES: dict[State, dict[Act, State | type[errors.LoginError]]] = {
    State.PENDING: {
        Act.SCAN: State.SCANNED,
        Act.CONFIRM: errors.NotAllowed,
        Act.DENY: errors.NotAllowed,
        Act.PROVE: errors.NotAllowed,
        Act.REDEEM: errors.NotConfirmed,
        Act.CANCEL: State.CANCELLED,
    },
    State.SCANNED: {
        Act.SCAN: State.SCANNED,
        Act.CONFIRM: State.CONFIRMED,
        Act.DENY: State.DENIED,
        Act.PROVE: errors.NotAllowed,
        Act.REDEEM: errors.NotConfirmed,
        Act.CANCEL: State.CANCELLED,
    },
    State.CONFIRMED: {
        Act.SCAN: errors.NotAllowed,
        Act.CONFIRM: State.CONFIRMED,
        Act.DENY: errors.NotAllowed,
        Act.PROVE: State.CONFIRMED,
        Act.REDEEM: State.REDEEMED,
        Act.CANCEL: State.CANCELLED,
    },
    State.REDEEMED: {
        Act.SCAN: errors.UnknownScene,
        Act.CONFIRM: State.REDEEMED,
        Act.DENY: errors.NotAllowed,
        Act.PROVE: State.REDEEMED,
        Act.REDEEM: State.REDEEMED,
        Act.CANCEL: errors.NotAllowed,
    },
    State.DENIED: {
        Act.SCAN: errors.UnknownScene,
        Act.CONFIRM: errors.LoginDenied,
        Act.DENY: State.DENIED,
        Act.PROVE: errors.LoginDenied,
        Act.REDEEM: errors.LoginDenied,
        Act.CANCEL: errors.NotAllowed,
    },
    State.CANCELLED: {
        Act.SCAN: errors.UnknownScene,
        Act.CONFIRM: errors.NotAllowed,
        Act.DENY: errors.NotAllowed,
        Act.PROVE: errors.LoginCancelled,
        Act.REDEEM: errors.LoginCancelled,
        Act.CANCEL: State.CANCELLED,
    },
    State.EXPIRED: dict.fromkeys(Act, errors.LoginExpired),
}
"""The outcome of each act in each state, for the phone that scanned."""


def login_in(state: State) -> Login:
    login = a_login(Clock(NOW), state=state)
    redeemed_at = NOW if state is State.REDEEMED else None
    return login if state is State.PENDING else replace(login, phone=ALICE, redeemed_at=redeemed_at)


def test_every_state_has_rules() -> None:
    assert set(RULES) == set(State)
    assert {state for state in State if RULES[state]} == OPEN


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("act", Act)
def test_act_has_its_outcome_in_each_state(state: State, act: Act) -> None:
    login = login_in(state)
    outcome = OUTCOMES[state][act]

    if isinstance(outcome, State):
        after = apply(login, act, now=NOW, phone=ALICE, profile=ALICE_PROFILE)
        assert after.state is outcome
        assert after.version == login.version + (outcome is not state)
    else:
        with pytest.raises(outcome):
            apply(login, act, now=NOW, phone=ALICE, profile=ALICE_PROFILE)


@pytest.mark.parametrize(
    ("state", "act", "refusal"),
    [
        (State.SCANNED, Act.SCAN, errors.AlreadyScanned),
        (State.CONFIRMED, Act.SCAN, errors.AlreadyScanned),
        (State.REDEEMED, Act.SCAN, errors.UnknownScene),
        (State.DENIED, Act.SCAN, errors.UnknownScene),
        (State.CANCELLED, Act.SCAN, errors.UnknownScene),
        (State.SCANNED, Act.CONFIRM, errors.WrongPhone),
        (State.CONFIRMED, Act.CONFIRM, errors.WrongPhone),
        (State.REDEEMED, Act.CONFIRM, errors.WrongPhone),
        (State.DENIED, Act.CONFIRM, errors.WrongPhone),
        (State.CANCELLED, Act.CONFIRM, errors.WrongPhone),
        (State.SCANNED, Act.DENY, errors.WrongPhone),
        (State.DENIED, Act.DENY, errors.WrongPhone),
    ],
)
def test_second_phone_is_refused(state: State, act: Act, refusal: type[errors.LoginError]) -> None:
    with pytest.raises(refusal):
        apply(login_in(state), act, now=NOW, phone=BOB, profile=BOB_PROFILE)


def test_identity_in_another_app_is_another_phone() -> None:
    other_phone = ALICE._replace(app="other")

    with pytest.raises(errors.WrongPhone):
        apply(
            login_in(State.SCANNED),
            Act.CONFIRM,
            now=NOW,
            phone=other_phone,
            profile=ALICE_PROFILE,
        )


@pytest.mark.parametrize("state", sorted(OPEN))
def test_active_login_expires_exactly_at_its_end(state: State) -> None:
    login = replace(login_in(state), expires_at=NOW)

    assert login.at(NOW - 0.001).state is state
    assert login.at(NOW).state is State.EXPIRED


def test_finished_login_does_not_expire() -> None:
    assert replace(login_in(State.REDEEMED), expires_at=NOW).at(NOW + 1).state is State.REDEEMED


def test_login_confirmed_late_has_time_to_redeem() -> None:
    login = replace(login_in(State.SCANNED), expires_at=NOW + 0.5)

    confirmed = apply(login, Act.CONFIRM, now=NOW, phone=ALICE, profile=ALICE_PROFILE)

    assert apply(confirmed, Act.REDEEM, now=NOW + 59).state is State.REDEEMED
    with pytest.raises(errors.LoginExpired):
        apply(confirmed, Act.REDEEM, now=NOW + 60)


def test_only_confirm_sets_the_subject() -> None:
    scanned = apply(login_in(State.PENDING), Act.SCAN, now=NOW, phone=ALICE)
    assert (scanned.phone, scanned.subject, scanned.confirmed_at) == (ALICE, None, None)

    confirmed = apply(scanned, Act.CONFIRM, now=NOW + 3, phone=ALICE, profile=ALICE_PROFILE)
    assert (confirmed.phone, confirmed.subject, confirmed.confirmed_at) == (ALICE, "alice", NOW + 3)


def test_unregistered_phone_may_confirm_after_registration() -> None:
    unregistered = login_in(State.SCANNED).awaiting_registration(until=NOW)

    assert unregistered.unregistered
    confirmed = apply(unregistered, Act.CONFIRM, now=NOW, phone=ALICE, profile=ALICE_PROFILE)
    assert (confirmed.state, confirmed.unregistered) == (State.CONFIRMED, False)


def test_registration_extends_a_login_once_and_never_shortens() -> None:
    login = login_in(State.SCANNED)

    extended = login.awaiting_registration(until=login.expires_at + 60)
    assert extended.expires_at == login.expires_at + 60
    assert extended.awaiting_registration(until=login.expires_at + 120) is extended
    assert login.awaiting_registration(until=NOW).expires_at == login.expires_at


def test_move_to_the_same_instance_changes_nothing() -> None:
    login = a_login(Clock(NOW), instance="one")

    assert login.on_instance("one") is login
    assert login.on_instance("two").version == login.version + 1


def test_redeem_is_repeatable_until_the_redelivery_window_ends() -> None:
    redeemed = apply(login_in(State.CONFIRMED), Act.REDEEM, now=NOW + 5)
    end = NOW + 5 + REDELIVERY_LIFETIME

    assert (redeemed.redeemed_at, redeemed.expires_at) == (NOW + 5, end)
    assert apply(redeemed, Act.REDEEM, now=end - 0.001) is redeemed
    with pytest.raises(errors.AlreadyRedeemed):
        apply(redeemed, Act.REDEEM, now=end)


def test_token_is_available_from_confirm_to_redelivery_end() -> None:
    confirmed = login_in(State.CONFIRMED)
    redeemed = apply(confirmed, Act.REDEEM, now=NOW + 5)

    assert not login_in(State.SCANNED).has_token(NOW)
    assert confirmed.has_token(NOW)
    assert redeemed.has_token(NOW + 5 + REDELIVERY_LIFETIME - 0.001)
    assert not redeemed.has_token(NOW + 5 + REDELIVERY_LIFETIME)


def test_login_redeemed_before_redelivery_existed_is_not_redeemable() -> None:
    stored_by_an_older_version = replace(login_in(State.REDEEMED), redeemed_at=None)

    with pytest.raises(errors.AlreadyRedeemed):
        apply(stored_by_an_older_version, Act.REDEEM, now=NOW)
