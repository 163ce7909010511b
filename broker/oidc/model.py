"""Authorization requests, sign-in sessions, authorization codes and families of refresh tokens.

    AuthorizationRequest ──login confirmed──▶ AuthorizationCode ──token request──▶ Family
                             │
                             └──▶ SignIn (the browser is signed in at the broker)

All records of one subject have ids that begin with the same character, the subject's shard. So
one script of the state reads a code or a family together with its sign-in session. Times are
Unix times in seconds by the state's clock.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from broker.apps.model import App
from broker.identity.model import Identity, UserProfile
from broker.infrastructure.sharding import shard_of

MATCH = "match"
"""The `amr` of a login with a match."""

ACR_SCAN, ACR_MATCH = "urn:scan-login:scan", "urn:scan-login:match"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationRequest:
    """A checked authorization request of an app, until its browser is sent back to the app.

    id: 43 URL-safe characters, 256 random bits; the end of a PAR `request_uri`.
    app, incarnation: the app's id, and which of the apps that had this id.
    response_mode: `query` or `form_post`.
    scope: granted scopes, in the order of `SCOPES`.
    claims: names of claims that the `claims` parameter asks for and the app's scopes allow.
    prompt: empty, `none`, `login` or `select_account`.
    max_age: seconds since the sign-in after which a new one is required; None for any.
    hint_subject: the subject of `id_token_hint`; None without a hint.
    match: whether `acr_values` asks for a match.
    language: `en` or `zh`; empty to use the browser's languages.
    began_at: when it was stored. A login without a request is accepted if it began later.
    cookie_hash: SHA-256 of the cookie of the browser that it is bound to; None before.
    completed_by: the login or the sign-in session that completed it; empty before.
    """

    id: str
    app: str
    incarnation: str
    redirect_uri: str
    response_mode: str
    scope: tuple[str, ...]
    state: str | None = None
    nonce: str | None = None
    code_challenge: str | None = None
    claims: tuple[str, ...] = ()
    prompt: str = ""
    max_age: int | None = None
    hint_subject: str | None = None
    login_hint: str | None = None
    match: bool = False
    language: str = ""
    began_at: float
    expires_at: float
    cookie_hash: bytes | None = field(default=None, repr=False)
    completed_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """A browser that is signed in at the broker itself.

    sid: 22 URL-safe characters; the first one is the shard of the subject.
    subject, identity: the signed-in user, and the identity by which the directory finds it again.
    cookie_hash: SHA-256 of the cookie; None for a session that only its own app uses.
    app_first: the app of the first sign-in.
    login_id: the login that made the session.
    apps: when each app used the session first, by app id.
    incarnations: the incarnation of each of these apps, by app id.
    ip, user_agent: of the browser; the phone lists them.
    latest_end: the session ends then however much it is used.
    """

    sid: str
    subject: str
    identity: Identity
    cookie_hash: bytes | None = field(default=None, repr=False)
    app_first: str
    auth_time: float
    amr: tuple[str, ...]
    acr: str
    login_id: str
    ip: str
    user_agent: str
    apps: dict[str, float]
    incarnations: dict[str, str]
    began_at: float
    used_at: float
    latest_end: float

    @property
    def first_incarnation(self) -> str:
        """The incarnation of `app_first`; empty if it has none."""
        return self.incarnations.get(self.app_first, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """The consent of a person to an app. A code and the family that follows share it.

    family: the family's id, 22 URL-safe characters; the first one is the shard of the subject.
    scope: granted scopes. offline: whether the family outlives its sign-in session.
    claims: names of further claims, from the `claims` parameter.
    """

    family: str
    sid: str
    app: str
    incarnation: str
    subject: str
    identity: Identity
    scope: tuple[str, ...]
    offline: bool
    claims: tuple[str, ...] = ()
    nonce: str | None = None
    auth_time: float
    amr: tuple[str, ...]
    acr: str
    login_id: str


def grant_of(
    sign_in: SignIn,
    *,
    family: str,
    app: App,
    scope: tuple[str, ...],
    claims: tuple[str, ...] = (),
    nonce: str | None = None,
) -> Grant:
    """Return what a signed-in person grants to `app`."""
    return Grant(
        family=family,
        sid=sign_in.sid,
        app=app.id,
        incarnation=app.incarnation,
        subject=sign_in.subject,
        identity=sign_in.identity,
        scope=scope,
        offline="offline_access" in scope,
        claims=claims,
        nonce=nonce,
        auth_time=sign_in.auth_time,
        amr=sign_in.amr,
        acr=sign_in.acr,
        login_id=sign_in.login_id,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationCode:
    """An authorization code, stored under the SHA-256 of its text.

    profile: what the directory answered at the confirm.
    """

    grant: Grant
    redirect_uri: str
    code_challenge: str | None
    profile: UserProfile
    expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """All tokens that follow from one grant.

    n: number of the current refresh token. Without refresh tokens it stays 0 and the family
        lives as long as its access token.
    rotated_at: when `n` became current.
    expires_at: end by idle time; `latest_end`: end however much it is used.
    """

    grant: Grant
    n: int
    rotated_at: float
    began_at: float
    used_at: float
    expires_at: float
    latest_end: float


def acr_of(auth_methods: tuple[str, ...]) -> str:
    """Return the `acr` of a login with this `amr`."""
    return ACR_MATCH if MATCH in auth_methods else ACR_SCAN


def hash_secret(secret: str) -> bytes:
    """Hash a cookie or a code of 256 random bits, which needs no slow hash."""
    return hashlib.sha256(secret.encode()).digest()


def subject_shard(subject: str) -> str:
    """Return the shard of all records of a subject. It does not reveal the subject."""
    return shard_of(subject)
