"""Tests of back-channel logout: which apps are notified, and how often."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import jwt
import pytest
from structlog.testing import capture_logs

from tests.support.builders import Clock, StartBroker
from tests.support.logout_receiver import LogoutReceiver, logout_receiver
from tests.support.oidc_app import (
    SETTINGS,
    ProfileDirectory,
    RelyingParty,
    claims_of,
    relying_party,
)
from tests.support.waiting import eventually


@pytest.fixture
def clock() -> Clock:
    return Clock(time.time())


@pytest.fixture
async def receiver() -> AsyncIterator[LogoutReceiver]:
    async with logout_receiver() as started:
        yield started


@pytest.fixture
async def app(
    start_broker: StartBroker, receiver: LogoutReceiver, clock: Clock
) -> AsyncIterator[RelyingParty]:
    broker = await start_broker(ProfileDirectory(), clock, webhooks_private=True, **SETTINGS)
    async with relying_party(broker, backchannel_logout_url=receiver.url) as app:
        yield app


async def end_by_reuse(app: RelyingParty, clock: Clock) -> dict[str, object]:
    """End a sign-in session by the reuse of a refresh token, and return its ID token's claims."""
    await app.admin.ask("PATCH", "/apps/shop", {"reuse": "signin"})
    tokens = await app.tokens()
    await app.refresh(tokens["refresh_token"])
    clock.time += 11
    await app.refresh(tokens["refresh_token"])
    return claims_of(tokens["id_token"])


async def test_ended_session_sends_a_logout_token(
    app: RelyingParty, receiver: LogoutReceiver, clock: Clock
) -> None:
    identity = await end_by_reuse(app, clock)
    await eventually(lambda: len(receiver.tokens) == 1)

    [token], [claims] = receiver.tokens, receiver.claims()
    assert jwt.get_unverified_header(token)["typ"] == "logout+jwt"
    assert jwt.get_unverified_header(token)["alg"] == "RS256"
    assert (claims["iss"], claims["aud"]) == (app.url, "shop")
    assert (claims["sub"], claims["sid"]) == (identity["sub"], identity["sid"])
    assert claims["exp"] - claims["iat"] == 120
    assert claims["events"] == {"http://schemas.openid.net/event/backchannel-logout": {}}
    assert "nonce" not in claims


async def test_sid_is_equal_in_all_three_tokens(
    app: RelyingParty, receiver: LogoutReceiver, clock: Clock
) -> None:
    await app.admin.ask("PATCH", "/apps/shop", {"reuse": "signin"})
    tokens = await app.tokens()
    sid = claims_of(tokens["id_token"])["sid"]
    assert claims_of(tokens["access_token"])["sid"] == sid
    await app.refresh(tokens["refresh_token"])
    clock.time += 11
    await app.refresh(tokens["refresh_token"])

    await eventually(lambda: len(receiver.tokens) == 1)

    assert receiver.claims()[0]["sid"] == sid


async def test_failed_logout_is_sent_again(
    app: RelyingParty, receiver: LogoutReceiver, clock: Clock
) -> None:
    receiver.statuses = [500, 503]
    await end_by_reuse(app, clock)
    await eventually(lambda: len(receiver.tokens) == 1)

    async def is_sent_three_times() -> bool:
        clock.time += 1
        return len(receiver.tokens) == 3

    await eventually(is_sent_three_times)

    first, *later = receiver.claims()
    assert all(claims["jti"] != first["jti"] for claims in later)
    assert all(claims["sid"] == first["sid"] for claims in later)


async def test_refused_logout_is_not_sent_again(
    app: RelyingParty, receiver: LogoutReceiver, clock: Clock
) -> None:
    receiver.statuses = [400]
    await end_by_reuse(app, clock)
    await eventually(lambda: len(receiver.tokens) == 1)
    clock.time += 700

    receiver.statuses = []
    other = await end_by_reuse(app, clock)
    await eventually(lambda: len(receiver.tokens) >= 2)

    assert [claims["sid"] for claims in receiver.claims()[1:]] == [other["sid"]]


async def test_redirect_of_a_logout_is_not_followed(
    app: RelyingParty, receiver: LogoutReceiver, clock: Clock
) -> None:
    async with logout_receiver() as other:
        receiver.statuses, receiver.location = [307], other.url
        await end_by_reuse(app, clock)
        await eventually(lambda: len(receiver.tokens) == 1)

        async def is_sent_again() -> bool:
            clock.time += 1
            return len(receiver.tokens) == 2

        await eventually(is_sent_again)

        assert other.tokens == []


REASONS = {"http": "the URL does not use https", "https": "127.0.0.1 is not a public address"}


@pytest.mark.parametrize(("scheme", "reason"), REASONS.items())
async def test_private_address_gets_no_logout(
    start_broker: StartBroker, receiver: LogoutReceiver, clock: Clock, scheme: str, reason: str
) -> None:
    broker = await start_broker(ProfileDirectory(), clock, **SETTINGS)
    url = receiver.url.replace("http:", f"{scheme}:")
    async with relying_party(broker, backchannel_logout_url=url) as app:
        with capture_logs() as lines:
            await end_by_reuse(app, clock)
            await eventually(lambda: any(line.get("reason") == reason for line in lines))

    assert receiver.tokens == []


async def test_blocked_user_ends_sessions_and_is_announced(
    start_broker: StartBroker, receiver: LogoutReceiver
) -> None:
    broker = await start_broker("sql", webhooks_private=True, **SETTINGS)
    async with relying_party(broker, backchannel_logout_url=receiver.url) as app:
        await app.admin.ask("POST", "/users", {"id": "u-1", "name": "Alice"})
        identity = {"provider": "pretend", "provider_app_id": "", "openid": "alice"}
        await app.admin.ask("POST", "/users/u-1/link", identity)
        tokens = await app.tokens()

        await app.admin.ask("PATCH", "/users/u-1", {"blocked": True})

        await eventually(lambda: len(receiver.tokens) == 1)
        assert (await app.refresh(tokens["refresh_token"])).error == "invalid_grant"
        assert await app.introspect(tokens["access_token"]) == {"active": False}
