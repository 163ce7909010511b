"""Records of the OpenID Connect provider for tests."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any

from broker.identity.model import Identity, UserProfile
from broker.oidc.model import (
    ACR_SCAN,
    AuthorizationCode,
    AuthorizationRequest,
    Family,
    Grant,
    SignIn,
    subject_shard,
)
from tests.support.builders import Clock

SUBJECT = "pretend:alice"
ALICE_IDENTITY = Identity("pretend", "alice")
COOKIE_HASH, CODE_HASH = b"c" * 32, b"d" * 32


def subject_id(subject: str = SUBJECT) -> str:
    """Return a random id in the subject's shard."""
    return subject_shard(subject) + secrets.token_urlsafe(16)[1:]


def a_request(clock: Clock, **changes: Any) -> AuthorizationRequest:
    request = AuthorizationRequest(
        id=secrets.token_urlsafe(32),
        app="shop",
        incarnation="",
        redirect_uri="https://shop.example/cb",
        response_mode="query",
        scope=("openid", "profile"),
        state="état",
        began_at=clock(),
        expires_at=clock() + 60,
    )
    return replace(request, **changes)


def a_sign_in(clock: Clock, **changes: Any) -> SignIn:
    subject = changes.get("subject", SUBJECT)
    sign_in = SignIn(
        sid=subject_id(subject),
        subject=subject,
        identity=ALICE_IDENTITY,
        cookie_hash=COOKIE_HASH,
        app_first="shop",
        auth_time=clock(),
        amr=("scan",),
        acr=ACR_SCAN,
        login_id="login-1",
        ip="192.0.2.1",
        user_agent="Firefox",
        apps={"shop": clock()},
        incarnations={"shop": "first"},
        began_at=clock(),
        used_at=clock(),
        latest_end=clock() + 604_800,
    )
    return replace(sign_in, **changes)


def a_grant(sign_in: SignIn, **changes: Any) -> Grant:
    grant = Grant(
        family=subject_id(sign_in.subject),
        sid=sign_in.sid,
        app="shop",
        incarnation="first",
        subject=sign_in.subject,
        identity=sign_in.identity,
        scope=("openid", "profile"),
        offline=False,
        auth_time=sign_in.auth_time,
        amr=sign_in.amr,
        acr=sign_in.acr,
        login_id=sign_in.login_id,
    )
    return replace(grant, **changes)


def a_code(clock: Clock, grant: Grant) -> AuthorizationCode:
    return AuthorizationCode(
        grant=grant,
        redirect_uri="https://shop.example/cb",
        code_challenge=None,
        profile=UserProfile(subject=grant.subject, name="爱丽丝", groups=("staff",)),
        expires_at=clock() + 60,
    )


def a_family(clock: Clock, grant: Grant, **changes: Any) -> Family:
    family = Family(
        grant=grant,
        n=0,
        rotated_at=clock(),
        began_at=clock(),
        used_at=clock(),
        expires_at=clock() + 1_000,
        latest_end=clock() + 10_000,
    )
    return replace(family, **changes)
