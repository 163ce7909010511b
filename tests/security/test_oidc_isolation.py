"""One app cannot use the codes, tokens and requests of another, or of a removed app."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import NamedTuple

import aiohttp
import pytest
import structlog

from broker.infrastructure.observability import logging as logs
from broker.infrastructure.observability.metrics import render
from tests.support.builders import StartBroker
from tests.support.oidc_app import (
    CALLBACK,
    SETTINGS,
    ProfileDirectory,
    RelyingParty,
    new_challenge,
    relying_party,
)
from tests.support.oidc_browser import ScanBrowser

INACTIVE = {"active": False}


class Apps(NamedTuple):
    """Two apps with the same redirect URL."""

    shop: RelyingParty
    evil: RelyingParty


@pytest.fixture
async def apps(start_broker: StartBroker) -> AsyncIterator[Apps]:
    broker = await start_broker(ProfileDirectory(), **SETTINGS)
    async with relying_party(broker) as shop, relying_party(broker, "evil") as evil:
        yield Apps(shop, evil)


async def test_code_of_another_app_is_refused(apps: Apps) -> None:
    code = await apps.shop.code()

    assert (await apps.evil.exchange(code)).error == "invalid_grant"
    assert (await apps.shop.exchange(code)).error == "invalid_grant"  # it was exposed


async def test_refresh_token_of_another_app_is_refused(apps: Apps) -> None:
    tokens = await apps.shop.tokens()

    assert (await apps.evil.refresh(tokens["refresh_token"])).error == "invalid_grant"
    assert (await apps.shop.refresh(tokens["refresh_token"])).status == 200


async def test_tokens_of_another_app_are_not_active(apps: Apps) -> None:
    tokens = await apps.shop.tokens()

    assert await apps.evil.introspect(tokens["access_token"]) == INACTIVE
    assert await apps.evil.introspect(tokens["refresh_token"]) == INACTIVE


async def test_tokens_of_another_app_are_not_revoked(apps: Apps) -> None:
    tokens = await apps.shop.tokens()

    for name in ("access_token", "refresh_token"):
        assert (await apps.evil.post("revoke", token=tokens[name])).status == 200

    assert (await apps.shop.introspect(tokens["access_token"]))["active"] is True


async def test_replayed_code_of_another_app_is_refused(apps: Apps) -> None:
    code = await apps.shop.code()
    await apps.shop.exchange(code)

    assert (await apps.evil.exchange(code)).error == "invalid_grant"


async def test_injected_code_fails_without_its_verifier(apps: Apps) -> None:
    """RFC 9700, section 4.5: a stolen code is brought to the attacker's own session."""
    victim, attacker = new_challenge(), new_challenge()
    stolen = await apps.shop.code(**victim.fields)

    answer = await apps.shop.exchange(stolen, code_verifier=attacker.verifier)

    assert answer.error == "invalid_grant"


async def test_plain_challenge_is_refused(apps: Apps) -> None:
    challenge = {"code_challenge": "v" * 43, "code_challenge_method": "plain"}

    pushed = await apps.shop.post("par", redirect_uri=CALLBACK, response_type="code", **challenge)

    assert (pushed.status, pushed.error) == (400, "invalid_request")


async def test_pushed_request_of_another_app_is_refused(apps: Apps) -> None:
    pushed = await apps.shop.post("par", redirect_uri=CALLBACK, response_type="code")
    query = {"client_id": "evil", "request_uri": pushed.body["request_uri"]}

    async with (
        aiohttp.ClientSession() as browser,
        browser.get(f"{apps.evil.url}/oauth/authorize", params=query) as response,
    ):
        assert response.status == 400
        assert "invalid_request_uri" in await response.text()


@pytest.mark.parametrize("kind", ["id_token", "refresh_token", "code"])
async def test_userinfo_accepts_access_tokens_only(apps: Apps, kind: str) -> None:
    tokens = await apps.shop.tokens()
    token = await apps.shop.code() if kind == "code" else tokens[kind]

    answer = await apps.shop.userinfo(token)

    assert (answer.status, answer.error) == (401, "invalid_token")


async def test_userinfo_refuses_a_token_without_the_issuer(apps: Apps) -> None:
    tokens = await apps.shop.tokens(scope="profile")

    assert (await apps.shop.userinfo(tokens["access_token"])).status == 403


async def test_grants_of_a_removed_app_do_not_work(apps: Apps) -> None:
    shop = apps.shop
    code, tokens = await shop.code(), await shop.tokens()
    await shop.admin.ask("DELETE", "/apps/shop")
    fields = {"id": "shop", "name": "Other", "redirect_urls": [CALLBACK]}
    await shop.admin.ask("POST", "/apps", fields)
    shop.secret = (await shop.admin.ask("POST", "/apps/shop/rotate-secret")).body["api_secret"]

    assert (await shop.exchange(code)).error == "invalid_grant"
    assert (await shop.refresh(tokens["refresh_token"])).error == "invalid_grant"
    assert (await shop.userinfo(tokens["access_token"])).status == 401
    assert await shop.introspect(tokens["access_token"]) == INACTIVE


async def test_session_of_a_removed_app_serves_no_other(start_broker: StartBroker) -> None:
    """The app that has its id now may have another provider account, and other subjects."""
    broker = await start_broker(ProfileDirectory(), **SETTINGS)
    async with (
        relying_party(broker, sso=True) as shop,
        relying_party(broker, "evil", sso=True) as evil,
        ScanBrowser(broker.url) as browser,
    ):
        await browser.redirect_after_sign_in(shop.request_url(), "alice", phone_app="shop")
        await shop.admin.ask("DELETE", "/apps/shop")
        fields = {"id": "shop", "name": "Other", "redirect_urls": [CALLBACK], "sso": True}
        assert (await shop.admin.ask("POST", "/apps", fields)).status == 201
        location = await browser.redirect_of(evil.request_url(prompt="none"))

    assert "error=login_required" in location


BAD_VALUES = [
    *("", "\0", "x" * 20_000, "ü", "..", "A.1.B", "%ff", "-" * 43),
    f"{'A' * 22}.1.{'A' * 43}",
]


@pytest.mark.parametrize("value", BAD_VALUES, ids=range(len(BAD_VALUES)))
async def test_bad_values_never_cause_a_server_error(apps: Apps, value: str) -> None:
    shop = apps.shop
    answers = await asyncio.gather(
        shop.exchange(value, code_verifier=value),
        shop.exchange("c" * 43, redirect_uri=value),
        shop.refresh(value, scope=value),
        shop.post("token", grant_type=value),
        shop.post("revoke", token=value, token_type_hint=value),
        shop.post("introspect", token=value),
        shop.post("par", redirect_uri=CALLBACK, response_type="code", state=value, nonce=value),
        shop.post("device_authorization", scope=value),
        shop.request("POST", "userinfo", data={"access_token": value}),
    )

    assert all(answer.status < 500 for answer in answers)


async def test_no_secret_of_a_grant_is_logged(
    start_broker: StartBroker,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    logs.configure("debug")
    try:
        broker = await start_broker(ProfileDirectory(), **SETTINGS)
        async with relying_party(broker) as app:
            challenge = new_challenge()
            code = await app.code(
                login_hint="canary-hint", state="canary-state", **challenge.fields
            )
            tokens = (await app.exchange(code, code_verifier=challenge.verifier)).body
            refreshed = (await app.refresh(tokens["refresh_token"])).body
            await app.refresh(refreshed["refresh_token"])
            await app.introspect(tokens["access_token"])
            await app.userinfo(tokens["access_token"])
            await app.refresh(tokens["refresh_token"])
            await app.exchange(code)
            await app.exchange("canary-code")
            await app.refresh("canary-token")
            secrets = [app.secret, code, challenge.verifier]
    finally:
        structlog.reset_defaults()
        logs.flush()

    output = "".join(capfd.readouterr()) + render().decode()
    names = ("access_token", "id_token", "refresh_token")
    secrets += [answer[name] for answer in (tokens, refreshed) for name in names]
    assert "refresh token used again" in output
    assert not [secret for secret in [*secrets, "canary"] if secret in output]
