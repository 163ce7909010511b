"""What a login is, and which changes it allows.

One login is one code on one screen, from the moment it is shown until a token
is handed over.  This file is the whole rule book.  It reads no clock, opens no
socket and imports nothing of ours but `errors`: callers pass `now` in and get
a new `Login` back.  A login is a msgspec.Struct, of which a changed copy is made
in a twentieth of the time that a dataclass takes.

    PENDING ──scan──▶ SCANNED ──confirm──▶ CONFIRMED ──redeem──▶ REDEEMED
       │                 ├─────deny──────▶ DENIED        │
       └───────cancel────┴────────────────cancel─────────┴────▶ CANCELLED

EXPIRED is the fruit of no act: it is what time makes of a login that is still
open (`Login.at`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from broker.identity.model import Phone
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
"""Seconds a confirmed login waits for its browser, however late it was confirmed:
a browser that is just reconnecting still gets what the phone was promised."""


REDELIVERY_LIFETIME = 60
"""Seconds after the first redeem in which a repeat returns the same token again: the
first answer may have been lost in transit, and no transport reports that reliably."""


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
    # The browser may have redeemed before a phone on a bad network asks again.
    Act.CONFIRM: frozenset({State.CONFIRMED, State.REDEEMED}),
    Act.DENY: frozenset({State.DENIED}),
    Act.REDEEM: frozenset({State.REDEEMED}),
    Act.CANCEL: frozenset({State.CANCELLED}),
}
"""An act that is repeated in its resulting state changes nothing and succeeds.
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
"""Why an act is refused in a state; `NotAllowed` where no row says more."""

OPEN = frozenset({State.PENDING, State.SCANNED, State.CONFIRMED})
"""The states that time can still end."""


class Browser(NamedTuple):
    """Where the browser that waits was seen; shown on the phone before it confirms."""

    ip: str
    user_agent: str


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """One code on one screen until a token is handed over.

    id: 22 URL-safe characters; may be logged.
    scene: the string inside the code, at most 32 characters (WeChat's limit
        for getwxacodeunlimit).  Anyone who sees the screen knows it.
    secret_hash: SHA-256 of the secret that only the browser knows.
    app, incarnation: the app's id, and which of the apps with this id, one after the other.
    began_at, confirmed_at: Unix time in seconds, by the state's clock.
    redeemed_at: the same; the `iat` of its token, so never ahead of the issuing host's clock.
    expires_at: Unix time in seconds.  A pending, scanned or confirmed login expires
        then; from then on the token of a redeemed login is not issued again.
    instance: the instance that holds the browser; empty where none waits on a
        socket (RFC 8628 polling).
    phone: who scanned; None before.  subject: who that is here; None until confirmed.
    unregistered: the directory did not know who confirmed; no state, for the same
        code works once the person has registered.
    lease: the pool's, for its code; None for one that was drawn live.
    version: rises by one with each change; what compare-and-set compares.
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

    def at(self, now: float) -> Login:
        """The login as it stands at `now`: one that is open past its end has expired."""
        if self.state in OPEN and now >= self.expires_at:
            return replace(self, state=State.EXPIRED)
        return self

    def has_token(self, now: float) -> bool:
        """Whether `redeem` returns the token at `now`, for the first time or again."""
        was_issued = self.redeemed_at is not None
        return (was_issued or self.state is State.CONFIRMED) and now < self.expires_at

    def awaiting_registration(self, *, until: float) -> Login:
        """The login after a confirm by an unregistered person, open until then at least.

        The same login if it was extended before: a login is extended once.
        """
        if self.unregistered:
            return self
        expires_at = max(self.expires_at, until)
        return replace(self, unregistered=True, expires_at=expires_at, version=self.version + 1)

    def on_instance(self, instance: str) -> Login:
        """The login with its browser at `instance`; itself when it is there already."""
        if self.instance == instance:
            return self
        return replace(self, instance=instance, version=self.version + 1)


def apply(
    login: Login,
    act: Act,
    *,
    now: float,
    phone: Phone | None = None,
    subject: str | None = None,
    issued_at: float | None = None,
) -> Login:
    """Return `login` as it stands after `act`; itself when the act is a repeat.

    `phone` acts where the act is a phone's; `subject` is who the directory says
    that is, and belongs to `confirm`.  The phone that scans is the only one that
    may confirm or deny.  `issued_at` is the token's `iat` and belongs to `redeem`; without
    it that is `now`.
    Raises a `LoginError`, and then nothing has changed.
    """
    state = next_state(login, act, now=now, phone=phone)
    if state is None:
        return login
    changes: dict[str, Any] = {"state": state, "version": login.version + 1}
    if act is Act.SCAN:
        changes["phone"] = phone
    elif act is Act.CONFIRM:
        changes |= {
            "subject": subject,
            "confirmed_at": now,
            "expires_at": now + REDEEM_LIFETIME,
            "unregistered": False,
        }
    elif act is Act.REDEEM:
        redeemed_at = now if issued_at is None else issued_at
        changes |= {"redeemed_at": redeemed_at, "expires_at": now + REDELIVERY_LIFETIME}
    return replace(login, **changes)


def next_state(login: Login, act: Act, *, now: float, phone: Phone | None = None) -> State | None:
    """Return the state that `act` leads to, or None if it repeats the last act.

    Raises as `apply`.
    """
    current = login.at(now)
    if current.state is State.EXPIRED:
        raise LoginExpired
    _check_phone(current, act, phone)
    if act is Act.REDEEM and current.state is State.REDEEMED and not current.has_token(now):
        raise AlreadyRedeemed
    if current.state in REPEATS.get(act, frozenset()):
        return None
    state = RULES[current.state].get(act)
    if state is None:
        raise REFUSALS.get((current.state, act), NotAllowed)
    return state


OTHER_PHONE_ERRORS: Mapping[Act, type[LoginError]] = {
    Act.SCAN: AlreadyScanned,
    Act.CONFIRM: WrongPhone,
    Act.DENY: WrongPhone,
}
"""What a phone hears that is not the one that scanned, by act."""


def _check_phone(login: Login, act: Act, phone: Phone | None) -> None:
    if act is Act.SCAN and login.state not in OPEN:
        return  # whoever scans a finished login's code finds no live one
    if act in OTHER_PHONE_ERRORS and login.phone not in (None, phone):
        raise OTHER_PHONE_ERRORS[act]
