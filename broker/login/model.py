"""A login and its states.

A login is one code on one screen, from begin until its token is delivered. A login is a
msgspec.Struct, which is copied with changes in a twentieth of the time of a dataclass.
`rules.py` has the rules by which acts change a login.

    PENDING ──scan──▶ SCANNED ──confirm──▶ CONFIRMED ──redeem──▶ REDEEMED
       │                 ├─────deny──────▶ DENIED        │
       └───────cancel────┴────────────────cancel─────────┴────▶ CANCELLED

A login with a match by code is confirmed by the phone's confirm and the browser's `prove`.
No act leads to EXPIRED. An open login is in this state from `expires_at` on (`Login.at`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from broker.identity.model import Identity, Phone, UserProfile, identity_key
from broker.login.match import MATCH, Match
from broker.pool.model import CodeLease

REDEEM_LIFETIME = 60
"""Seconds in which a confirmed login can be redeemed, even if it was confirmed in its last
second: a browser that reconnects at that moment still gets its token."""

REDELIVERY_LIFETIME = 60
"""Seconds after the first redeem in which a repeat returns the same token. The first answer
may be lost in transit, and no transport reports that reliably."""


PROOF_LIFETIME = 60
"""Seconds in which the digits of the phone can be typed in the browser."""


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
    PROVE = "prove"
    REDEEM = "redeem"
    CANCEL = "cancel"


class Reason(StrEnum):
    """Why a login was denied other than by its phone, or cancelled by an operator."""

    POLICY = "policy"
    MATCH = "match"
    SHARED = "shared"
    BLOCKED = "blocked"
    ADMIN = "admin"


REFUSAL_REASONS = frozenset({Reason.POLICY, Reason.SHARED, Reason.BLOCKED})
"""Reasons by which the broker has refused a login. The browser gets to know that it was refused. It
cannot distinguish a wrong answer to a match from a denial by the person."""


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


class Login(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One code on one screen until its token is delivered.

    id: 22 URL-safe characters; may be logged.
    scene: the string in the code, at most 32 characters (WeChat's limit for
        getwxacodeunlimit). Anyone who sees the screen can read it.
    secret_hash: SHA-256 of the secret that only the browser has.
    app, incarnation: the app's id, and which of the apps that had this id one after another.
    began_at, scanned_at, confirmed_at: Unix time in seconds by the state's clock.
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
    name: of the user, for the token; None if the phone did not show the scope `profile`.
    origin: of the page that began it; empty for a device.
    known: keys of the identities that use this browser (`identity_key`); None if that was not
        looked up.
    is_match_requested: whether its authorization request asks for a match.
    match: the match that it needs; None if it needs none.
    phone_ip: the address of the phone at the scan; empty before.
    other_scans: keys of further people who scanned the code, each once.
    reason: why it was denied, if not by its phone, or cancelled, if not by its browser: a
        `Reason`, and after a colon what a policy said.
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
    name: str | None = None
    origin: str = ""
    known: tuple[str, ...] | None = None
    is_match_requested: bool = False
    match: Match | None = None
    phone_ip: str = ""
    other_scans: tuple[str, ...] = ()
    reason: str = ""
    scanned_at: float | None = None

    @property
    def auth_methods(self) -> tuple[str, ...]:
        """The `amr` of a confirmed login."""
        return ("scan",) if self.match is None else ("scan", MATCH)

    @property
    def is_refused(self) -> bool:
        """Whether the broker has denied the login, and not the person."""
        return self.reason.partition(":")[0] in REFUSAL_REASONS

    @property
    def shows_digits(self) -> bool:
        """Whether the phone has confirmed and shows digits that the browser must send."""
        return (
            self.state is State.SCANNED
            and self.match is not None
            and self.match.kind == "code"
            and bool(self.match.answer)
        )

    @property
    def awaits_registration(self) -> bool:
        """Whether the person who scanned has to register, and to confirm again."""
        return self.unregistered and self.state is State.SCANNED

    def is_known_to(self, identity: Identity) -> bool | None:
        """Return whether `identity` has used this browser; None if that was not looked up."""
        return None if self.known is None else identity_key(identity) in self.known

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

    def with_reason(self, reason: Reason) -> Login:
        return replace(self, reason=reason.value)

    def on_instance(self, instance: str) -> Login:
        """Return the login with its browser at `instance`; the same object if it has no change."""
        if self.instance == instance:
            return self
        return replace(self, instance=instance, version=self.version + 1)
