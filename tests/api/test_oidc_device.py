"""Tests of the device grant with the scope `openid`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.support.builders import StartBroker
from tests.support.clients import PhoneClient
from tests.support.device_flow import GRANT
from tests.support.oidc_app import (
    SETTINGS,
    Answer,
    ProfileDirectory,
    RelyingParty,
    claims_of,
    relying_party,
)


@pytest.fixture
async def app(start_broker: StartBroker) -> AsyncIterator[RelyingParty]:
    broker = await start_broker(ProfileDirectory(), **SETTINGS)
    async with relying_party(broker) as app:
        yield app


async def confirmed(app: RelyingParty, scope: str) -> str:
    """Begin and confirm a login on a device, and return its `device_code`."""
    begun = await app.post("device_authorization", scope=scope)
    assert begun.status == 200, begun.body
    async with PhoneClient(app.url, "alice", app=app.id) as phone:
        scanned = await phone.post("scan", {"scene": begun.body["user_code"]})
        assert scanned.body["app"]["scopes"] == scope.split()
        await phone.post("confirm", {"login_id": begun.body["login_id"]})
    return str(begun.body["device_code"])


async def redeem(app: RelyingParty, device_code: str) -> Answer:
    return await app.post("token", grant_type=GRANT, device_code=device_code)


async def test_device_with_openid_gets_all_tokens(app: RelyingParty) -> None:
    answer = await redeem(app, await confirmed(app, "openid profile offline_access"))

    tokens = answer.body
    identity = claims_of(tokens["id_token"])
    assert tokens["subject"] == identity["sub"] == "u-alice"
    assert identity["name"] == "Alice"
    assert (await app.userinfo(tokens["access_token"])).body["name"] == "Alice"
    assert (await app.introspect(tokens["access_token"]))["active"] is True
    refreshed = (await app.refresh(tokens["refresh_token"])).body
    assert claims_of(refreshed["id_token"])["sid"] == identity["sid"]


async def test_repeated_delivery_is_the_same_token(app: RelyingParty) -> None:
    device_code = await confirmed(app, "openid offline_access")

    first, second = [(await redeem(app, device_code)).body for _ in range(2)]

    before, after = claims_of(first["access_token"]), claims_of(second["access_token"])
    assert before == after
    assert before["jti"] == device_code.partition(".")[0]
    assert first["refresh_token"] == second["refresh_token"]


async def test_revoked_device_tokens_are_not_delivered_again(app: RelyingParty) -> None:
    device_code = await confirmed(app, "openid offline_access")
    tokens = (await redeem(app, device_code)).body

    await app.post("revoke", token=tokens["refresh_token"])

    assert (await redeem(app, device_code)).error == "invalid_grant"
    assert await app.introspect(tokens["access_token"]) == {"active": False}


async def test_confidential_app_needs_its_secret_with_openid(app: RelyingParty) -> None:
    device_code = await confirmed(app, "openid")
    form = {"client_id": app.id, "grant_type": GRANT, "device_code": device_code}

    begun = await app.request(
        "POST", "device_authorization", data={"client_id": app.id, "scope": "openid"}
    )
    redeemed = await app.request("POST", "token", data=form)

    assert (begun.status, begun.error) == (401, "invalid_client")
    assert (redeemed.status, redeemed.error) == (401, "invalid_client")
    assert (await redeem(app, device_code)).status == 200


async def test_device_without_scope_needs_no_secret(app: RelyingParty) -> None:
    begun = await app.request("POST", "device_authorization", data={"client_id": app.id})

    assert begun.status == 200


async def test_token_without_scope_is_active_for_its_app(app: RelyingParty) -> None:
    device_code = await confirmed(app, "profile")
    token = (await redeem(app, device_code)).body["access_token"]
    fields = {"id": "other", "name": "Other"}
    await app.admin.ask("POST", "/apps", fields)
    rotated = await app.admin.ask("POST", "/apps/other/rotate-secret")

    other = replace(app, id="other", secret=rotated.body["api_secret"])

    assert (await app.introspect(token))["active"] is True
    assert await other.introspect(token) == {"active": False}


async def test_openid_is_refused_over_insecure_http(start_broker: StartBroker) -> None:
    broker = await start_broker(
        ProfileDirectory(), **SETTINGS, public_url="http://login.example", allow_pretend=True
    )
    async with relying_party(broker) as app:
        answer = await app.post("device_authorization", scope="openid")

    assert (answer.status, answer.error) == (400, "invalid_request")


async def test_scopes_of_other_apps_are_dropped(app: RelyingParty) -> None:
    await app.admin.ask("PATCH", "/apps/shop", {"scopes": ["openid"]})
    begun = await app.post("device_authorization", scope="openid groups admin")
    async with PhoneClient(app.url, "alice", app=app.id) as phone:
        scanned = await phone.post("scan", {"scene": begun.body["user_code"]})

    assert scanned.body["app"]["scopes"] == ["openid"]


async def test_device_in_another_network_is_refused(app: RelyingParty) -> None:
    await app.admin.ask("PATCH", "/apps/shop", {"networks": ["203.0.113.0/24"]})

    answer = await app.post("device_authorization", scope="openid")

    assert (answer.status, answer.error) == (400, "access_denied")
