"""The rules by which acts change a login, as tables.

This module is pure: it reads no clock and does no I/O. Callers pass `now`, what a policy decided
and what was drawn at random, and get a new `Login`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, TypedDict, Unpack

from msgspec.structs import replace

from broker.identity.model import Phone, UserProfile, identity_key
from broker.login.errors import (
    AlreadyRedeemed,
    AlreadyScanned,
    LoginCancelled,
    LoginDenied,
    LoginError,
    LoginExpired,
    NotAllowed,
    NotConfirmed,
    UnknownScene,
    WrongPhone,
)
from broker.login.match import Match
from broker.login.model import (
    OPEN,
    PROOF_LIFETIME,
    REDEEM_LIFETIME,
    REDELIVERY_LIFETIME,
    Act,
    Decision,
    Login,
    Reason,
    State,
    Verdict,
)


class Condition(StrEnum):
    """Why an act leads to another state than its rule in `RULES`."""

    POLICY_DENIES = "policy denies"
    USER_IS_BLOCKED = "user is blocked"
    NEEDS_PROOF = "needs proof"
    WRONG_ANSWER = "wrong answer"
    LAST_WRONG_ANSWER = "last wrong answer"
    OTHER_PERSON = "other person"
    LAST_OTHER_PERSON = "last other person"


RULES: Mapping[State, Mapping[Act, State]] = {
    State.PENDING: {Act.SCAN: State.SCANNED, Act.CANCEL: State.CANCELLED},
    State.SCANNED: {
        Act.CONFIRM: State.CONFIRMED,
        Act.PROVE: State.CONFIRMED,
        Act.DENY: State.DENIED,
        Act.CANCEL: State.CANCELLED,
    },
    State.CONFIRMED: {Act.REDEEM: State.REDEEMED, Act.CANCEL: State.CANCELLED},
    State.REDEEMED: {},
    State.DENIED: {},
    State.EXPIRED: {},
    State.CANCELLED: {},
}

CONDITIONAL_RULES: Mapping[tuple[State, Act, Condition], tuple[State, Reason | None]] = {
    (State.PENDING, Act.SCAN, Condition.POLICY_DENIES): (State.DENIED, Reason.POLICY),
    (State.SCANNED, Act.SCAN, Condition.OTHER_PERSON): (State.SCANNED, None),
    (State.SCANNED, Act.SCAN, Condition.LAST_OTHER_PERSON): (State.DENIED, Reason.SHARED),
    (State.SCANNED, Act.DENY, Condition.USER_IS_BLOCKED): (State.DENIED, Reason.BLOCKED),
    (State.SCANNED, Act.CONFIRM, Condition.NEEDS_PROOF): (State.SCANNED, None),
    (State.SCANNED, Act.CONFIRM, Condition.WRONG_ANSWER): (State.DENIED, Reason.MATCH),
    (State.SCANNED, Act.PROVE, Condition.WRONG_ANSWER): (State.SCANNED, None),
    (State.SCANNED, Act.PROVE, Condition.LAST_WRONG_ANSWER): (State.DENIED, Reason.MATCH),
}
"""The next state under a condition, and the login's reason if it is denied."""

WRONG_ANSWER_STATES = frozenset({State.SCANNED, State.DENIED})
"""The states of a login after `prove` with a wrong answer."""

REPEATS: Mapping[Act, frozenset[State]] = {
    Act.SCAN: frozenset({State.SCANNED}),
    # The browser may redeem before a phone on an unreliable network repeats its confirm.
    Act.CONFIRM: frozenset({State.CONFIRMED, State.REDEEMED}),
    Act.PROVE: frozenset({State.CONFIRMED, State.REDEEMED}),
    Act.DENY: frozenset({State.DENIED}),
    Act.REDEEM: frozenset({State.REDEEMED}),
    Act.CANCEL: frozenset({State.CANCELLED}),
}
"""States in which an act is a repeat: it succeeds and changes nothing.
A repeated `redeem` succeeds until the login's `expires_at`."""

REFUSALS: Mapping[tuple[State, Act], type[LoginError]] = {
    (State.PENDING, Act.REDEEM): NotConfirmed,
    (State.SCANNED, Act.REDEEM): NotConfirmed,
    (State.DENIED, Act.CONFIRM): LoginDenied,
    (State.DENIED, Act.PROVE): LoginDenied,
    (State.DENIED, Act.REDEEM): LoginDenied,
    (State.CANCELLED, Act.PROVE): LoginCancelled,
    (State.CANCELLED, Act.REDEEM): LoginCancelled,
    (State.REDEEMED, Act.SCAN): UnknownScene,
    (State.DENIED, Act.SCAN): UnknownScene,
    (State.CANCELLED, Act.SCAN): UnknownScene,
}
"""The error for an act in a state; `NotAllowed` for all other pairs without a rule."""


class Details(TypedDict, total=False):
    """Arguments of acts.

    phone: the phone that acts; None for an act of the browser.
    phone_ip, verdict: of a scan: the phone's address, and the policy's verdict.
    match: the match that the login needs, drawn for a scan.
    answer: for the confirm with a match by number, and for `prove`.
    digits: drawn for the confirm with a match by code.
    profile: of the phone's user, for `confirm`.
    name: of the user, for `confirm`; None if the app may not know it.
    is_blocked: whether the directory refuses the phone's user, for `deny`.
    issued_at: the token's `iat`, for `redeem`; default: `now`.
    request: the authorization request that the login completes, for `redeem`. A login completes
        one request, or is redeemed for a token without one.
    """

    phone: Phone | None
    phone_ip: str
    verdict: Verdict
    match: Match | None
    answer: str
    digits: str
    profile: UserProfile | None
    name: str | None
    is_blocked: bool
    issued_at: float
    request: str


def apply(login: Login, act: Act, *, now: float, **details: Unpack[Details]) -> Login:
    """Return `login` after `act`; the same object if the act is a repeat.

    Only the phone that scanned can confirm or deny.
    Raises a LoginError. The login is unchanged then.
    """
    phone, request = details.get("phone"), details.get("request", "")
    state = next_state(login, act, now=now, phone=phone, request=request)
    if state is None:
        return login
    condition = CONDITIONS[act](login, details) if act in CONDITIONS else None
    reason = None
    if condition is not None:
        state, reason = CONDITIONAL_RULES[login.state, act, condition]
    changes = CHANGES[act, state](login, now, details) if (act, state) in CHANGES else {}
    if reason is not None:
        changes["reason"] = _reason(reason, details)
    return replace(login, state=state, version=login.version + 1, **changes)


def _reason(reason: Reason, details: Details) -> str:
    """Return the reason for the audit log, with the one of the policy."""
    verdict = details.get("verdict")
    return f"{reason}: {verdict.reason}" if verdict is not None and verdict.reason else reason


def _scan_condition(login: Login, details: Details) -> Condition | None:
    verdict = details.get("verdict")
    denies = verdict is not None and verdict.decision is Decision.DENY
    return Condition.POLICY_DENIES if denies else None


def _deny_condition(login: Login, details: Details) -> Condition | None:
    return Condition.USER_IS_BLOCKED if details.get("is_blocked") else None


def _confirm_condition(login: Login, details: Details) -> Condition | None:
    if login.match is None:
        return None
    if login.match.kind == "code":
        return Condition.NEEDS_PROOF
    is_right = login.match.is_right(details.get("answer", ""))
    return None if is_right else Condition.WRONG_ANSWER


def _prove_condition(login: Login, details: Details) -> Condition | None:
    assert login.match is not None, "next_state allows proofs of a match only"
    if login.match.is_right(details.get("answer", "")):
        return None
    return Condition.WRONG_ANSWER if login.match.tries_left > 1 else Condition.LAST_WRONG_ANSWER


CONDITIONS: Mapping[Act, Callable[[Login, Details], Condition | None]] = {
    Act.SCAN: _scan_condition,
    Act.DENY: _deny_condition,
    Act.CONFIRM: _confirm_condition,
    Act.PROVE: _prove_condition,
}

Changes = dict[str, Any]


def _scanned(login: Login, now: float, details: Details) -> Changes:
    names = ("phone", "phone_ip", "match")
    known = {name: details[name] for name in names if name in details}  # type: ignore[literal-required]
    return {**known, "scanned_at": now}


def _confirmed(login: Login, now: float, details: Details) -> Changes:
    return {
        **_admitted(login, details),
        "confirmed_at": now,
        "expires_at": now + REDEEM_LIFETIME,
    }


def _admitted(login: Login, details: Details) -> Changes:
    profile = details.get("profile")
    return {
        "subject": None if profile is None else profile.subject,
        "profile": profile if login.scope and "openid" in login.scope else None,
        "name": details.get("name"),
        "unregistered": False,
    }


def _digits_shown(login: Login, now: float, details: Details) -> Changes:
    match = login.match and replace(login.match, answer=details["digits"])
    return {**_admitted(login, details), "match": match, "expires_at": now + PROOF_LIFETIME}


def _proved(login: Login, now: float, details: Details) -> Changes:
    return {"confirmed_at": now, "expires_at": now + REDEEM_LIFETIME}


def _missed(login: Login, now: float, details: Details) -> Changes:
    return {"match": login.match and replace(login.match, tries=login.match.tries + 1)}


def _redeemed(login: Login, now: float, details: Details) -> Changes:
    return {
        "redeemed_at": details.get("issued_at", now),
        "expires_at": now + REDELIVERY_LIFETIME,
        "request": details.get("request", ""),
    }


CHANGES: Mapping[tuple[Act, State], Callable[[Login, float, Details], Changes]] = {
    (Act.SCAN, State.SCANNED): _scanned,
    (Act.SCAN, State.DENIED): _scanned,
    (Act.CONFIRM, State.CONFIRMED): _confirmed,
    (Act.CONFIRM, State.SCANNED): _digits_shown,
    (Act.PROVE, State.CONFIRMED): _proved,
    (Act.PROVE, State.SCANNED): _missed,
    (Act.PROVE, State.DENIED): _missed,
    (Act.REDEEM, State.REDEEMED): _redeemed,
}
"""The changes of an act that leads to a state, apart from `state`, `version` and `reason`."""


def count_scan(login: Login, phone: Phone, *, now: float, limit: int) -> Login:
    """Return `login` after a scan by another person; the same object if nothing changes.

    Each person is counted once, while the login is scanned. `limit` people end the login.
    """
    if login.at(now).state is not State.SCANNED or login.phone is None:
        return login
    person = identity_key(phone.identity)
    if person in (identity_key(login.phone.identity), *login.other_scans):
        return login
    others = (*login.other_scans, person)
    condition = Condition.LAST_OTHER_PERSON if len(others) >= limit else Condition.OTHER_PERSON
    state, reason = CONDITIONAL_RULES[State.SCANNED, Act.SCAN, condition]
    return replace(
        login, state=state, other_scans=others, reason=reason or "", version=login.version + 1
    )


def next_state(
    login: Login, act: Act, *, now: float, phone: Phone | None = None, request: str = ""
) -> State | None:
    """Return the state that `act` leads to by `RULES`, or None if the act is a repeat.

    Raises the same errors as `apply`.
    """
    current = login.at(now)
    if current.state is State.EXPIRED:
        raise LoginExpired
    _check_phone(current, act, phone)
    if act is Act.REDEEM:
        _check_request(current, request)
    if act is Act.REDEEM and current.state is State.REDEEMED and not current.has_token(now):
        raise AlreadyRedeemed
    if _is_repeat(current, act):
        return None
    state = RULES[current.state].get(act)
    if state is None or (act is Act.PROVE and not current.shows_digits):
        raise _refusal(current, act)
    return state


def _is_repeat(login: Login, act: Act) -> bool:
    return login.state in REPEATS.get(act, ()) or (act is Act.CONFIRM and login.shows_digits)


def _refusal(login: Login, act: Act) -> LoginError:
    if act is Act.CONFIRM and login.reason == Reason.SHARED:
        return NotAllowed()  # the phone did not deny the login
    if act is Act.REDEEM and login.is_refused:
        return LoginDenied("the broker refused the login", refused=True)
    return REFUSALS.get((login.state, act), NotAllowed)()


def _check_request(login: Login, request: str) -> None:
    """Raise an error if the login belongs to another request than `request`.

    The page of a login of a request gets no token: the sign-in page submits the login instead.
    """
    if login.request == request:
        return
    if not request:
        raise NotConfirmed
    if login.request or login.state is State.REDEEMED:
        raise AlreadyRedeemed


OTHER_PHONE_ERRORS: Mapping[Act, type[LoginError]] = {
    Act.SCAN: AlreadyScanned,
    Act.CONFIRM: WrongPhone,
    Act.DENY: WrongPhone,
}
"""The error for a phone that has not scanned the login, by act."""


def _check_phone(login: Login, act: Act, phone: Phone | None) -> None:
    if act is Act.SCAN and login.state not in OPEN:
        return  # the code of a finished login is unknown, also to the phone that scanned it
    if act in OTHER_PHONE_ERRORS and login.phone not in (None, phone):
        raise OTHER_PHONE_ERRORS[act]
