"""The states of a login and the rules by which acts change them.

A login is one code on one screen, from begin until its token is delivered. This module is
pure: it reads no clock and does no I/O. Callers pass `now` and get a new `Login`. A login is
a msgspec.Struct, which is copied with changes in a twentieth of the time of a dataclass.

    PENDING ──scan──▶ SCANNED ──confirm──▶ CONFIRMED ──redeem──▶ REDEEMED
       │                 ├─────deny──────▶ DENIED        │
       └───────cancel────┴────────────────cancel─────────┴────▶ CANCELLED

No act leads to EXPIRED. An open login is in this state from `expires_at` on (`Login.at`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from broker.identity.model import Phone, UserProfile
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
from broker.pool.model import CodeLease

REDEEM_LIFETIME = 60
"""Seconds in which a confirmed login can be redeemed, even if it was confirmed in its last
second: a browser that reconnects at that moment still gets its token."""

REDELIVERY_LIFETIME = 60
"""Seconds after the first redeem in which a repeat returns the same token. The first answer
may be lost in transit, and no transport reports that reliably."""


class State(StrEnum):
    PENDING = "pending"
    SCANNED = "scanned"
    CONFIRMED = "confirmed"
    REDEEMED = "redeemed"
    DENIED = "denied"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class Act(StrEnum):
    SCAN = "scan"
    CONFIRM = "confirm"
    DENY = "deny"
    REDEEM = "redeem"
    CANCEL = "cancel"


RULES: Mapping[State, Mapping[Act, State]] = {
    State.PENDING: {Act.SCAN: State.SCANNED, Act.CANCEL: State.CANCELLED},
    State.SCANNED: {
        Act.CONFIRM: State.CONFIRMED,
        Act.DENY: State.DENIED,
        Act.CANCEL: State.CANCELLED,
    },
    State.CONFIRMED: {Act.REDEEM: State.REDEEMED, Act.CANCEL: State.CANCELLED},
    State.REDEEMED: {},
    State.DENIED: {},
    State.EXPIRED: {},
    State.CANCELLED: {},
}

REPEATS: Mapping[Act, frozenset[State]] = {
    Act.SCAN: frozenset({State.SCANNED}),
    # The browser may redeem before a phone on an unreliable network repeats its confirm.
    Act.CONFIRM: frozenset({State.CONFIRMED, State.REDEEMED}),
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
    (State.DENIED, Act.REDEEM): LoginDenied,
    (State.CANCELLED, Act.REDEEM): LoginCancelled,
    (State.REDEEMED, Act.SCAN): UnknownScene,
    (State.DENIED, Act.SCAN): UnknownScene,
    (State.CANCELLED, Act.SCAN): UnknownScene,
}
"""The error for an act in a state; `NotAllowed` for all other pairs without a rule."""

OPEN = frozenset({State.PENDING, State.SCANNED, State.CONFIRMED})
"""States in which a login can expire."""


class Decision(StrEnum):
    """The decision of a login policy about a scan. A challenge requires a match."""

    ALLOW = "allow"
    CHALLENGE = "challenge"
    DENY = "deny"


class Verdict(NamedTuple):
    """A decision, and its reason for the audit log; empty if there is none."""

    decision: Decision
    reason: str = ""


class Browser(NamedTuple):
    """The address and user agent of a browser. The phone shows them before it confirms."""

    ip: str
    user_agent: str


class ConfirmedLogin(NamedTuple):
    """A login in the audit log that a person confirmed.

    provider, openid: the identity of the phone, by which only this person may report it.
    reported_at: Unix time in seconds of the first report; None before.
    """

    app: str
    incarnation: str
    provider: str
    openid: str
    subject: str
    reported_at: float | None


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """One code on one screen until its token is delivered.

    id: 22 URL-safe characters; may be logged.
    scene: the string in the code, at most 32 characters (WeChat's limit for
        getwxacodeunlimit). Anyone who sees the screen can read it.
    secret_hash: SHA-256 of the secret that only the browser has.
    app, incarnation: the app's id, and which of the apps that had this id one after another.
    began_at, confirmed_at: Unix time in seconds by the state's clock.
    redeemed_at: also; the token's `iat`, so never ahead of the issuing host's clock.
    expires_at: Unix time in seconds. A pending, scanned or confirmed login expires then.
        The token of a redeemed login is not issued again from then on.
    instance: the instance that has the browser's socket; empty for RFC 8628 polling.
    phone: the phone that scanned; None before.
    subject: the subject of the phone's user; None before the confirm.
    unregistered: whether the directory did not know the user who confirmed. This is not a
        state, because the same code works once the user has registered.
    lease: the lease of a pool code; None for a code that was drawn live.
    request: the authorization request that it belongs to; empty for a login of a page that
        redeems it for a token.
    scope: the scopes that the phone shows; None to show those of the app.
    profile: the directory's answer at the confirm; kept only if `scope` has `openid`.
    phone_ip: the address of the phone at the scan; empty before.
    reason: why it was denied, if not by its phone; for the audit log.
    version: increases by one with each change, for compare-and-set.
    """

    id: str
    scene: str
    secret_hash: bytes
    app: str
    browser: Browser
    began_at: float
    expires_at: float
    instance: str = ""
    state: State = State.PENDING
    phone: Phone | None = None
    subject: str | None = None
    confirmed_at: float | None = None
    unregistered: bool = False
    redeemed_at: float | None = None
    lease: CodeLease | None = None
    version: int = 0
    incarnation: str = ""
    request: str = ""
    scope: tuple[str, ...] | None = None
    profile: UserProfile | None = None
    phone_ip: str = ""
    reason: str = ""

    def at(self, now: float) -> Login:
        """Return the login in its state at `now`: expired if it is open after `expires_at`."""
        if self.state in OPEN and now >= self.expires_at:
            return replace(self, state=State.EXPIRED)
        return self

    def has_token(self, now: float) -> bool:
        """Return whether `redeem` returns the token at `now`, for the first time or again."""
        was_issued = self.redeemed_at is not None
        return (was_issued or self.state is State.CONFIRMED) and now < self.expires_at

    def awaiting_registration(self, *, until: float) -> Login:
        """Return the login after a confirm by an unregistered user, open at least `until` then.

        It is the same object if the login was extended before: a login is extended once.
        """
        if self.unregistered:
            return self
        expires_at = max(self.expires_at, until)
        return replace(self, unregistered=True, expires_at=expires_at, version=self.version + 1)

    def on_instance(self, instance: str) -> Login:
        """Return the login with its browser at `instance`; the same object if it has no change."""
        if self.instance == instance:
            return self
        return replace(self, instance=instance, version=self.version + 1)


def apply(
    login: Login,
    act: Act,
    *,
    now: float,
    phone: Phone | None = None,
    profile: UserProfile | None = None,
    issued_at: float | None = None,
    request: str = "",
) -> Login:
    """Return `login` after `act`; the same object if the act is a repeat.

    Only the phone that scanned can confirm or deny.

    phone: the phone that acts; None for an act of the browser.
    profile: of the phone's user, for `confirm`.
    issued_at: the token's `iat`, for `redeem`; default: `now`.
    request: the authorization request that the login completes, for `redeem`. A login completes
        one request, or is redeemed for a token without one.
    Raises a LoginError. The login is unchanged then.
    """
    state = next_state(login, act, now=now, phone=phone, request=request)
    if state is None:
        return login
    changes: dict[str, Any] = {"state": state, "version": login.version + 1}
    if act is Act.SCAN:
        changes["phone"] = phone
    elif act is Act.CONFIRM:
        changes |= {
            "subject": None if profile is None else profile.subject,
            "profile": profile if login.scope and "openid" in login.scope else None,
            "confirmed_at": now,
            "expires_at": now + REDEEM_LIFETIME,
            "unregistered": False,
        }
    elif act is Act.REDEEM:
        redeemed_at = now if issued_at is None else issued_at
        changes |= {
            "redeemed_at": redeemed_at,
            "expires_at": now + REDELIVERY_LIFETIME,
            "request": request,
        }
    return replace(login, **changes)


def next_state(
    login: Login, act: Act, *, now: float, phone: Phone | None = None, request: str = ""
) -> State | None:
    """Return the state that `act` leads to, or None if the act is a repeat.

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
    if current.state in REPEATS.get(act, frozenset()):
        return None
    state = RULES[current.state].get(act)
    if state is None:
        raise REFUSALS.get((current.state, act), NotAllowed)
    return state


def _check_request(login: Login, request: str) -> None:
    """Raise an error if the login belongs to another request than `request`.

    The page of a login of a request gets no token: the login page submits the login instead.
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
