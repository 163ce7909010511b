"""The npm package openid-client: every grant, method of client authentication and logout."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import jwt
import pytest
from yarl import URL

from tests.support.clients import PhoneClient
from tests.support.node_client import NodeClient, Refusal, running_client
from tests.support.oidc_browser import ScanBrowser, new_person
from tests.support.oidc_provider import Provider

CALLBACK = "http://127.0.0.1:1/callback"
AFTER_LOGOUT = "http://127.0.0.1:1/signed-out"
SCOPE = "openid profile offline_access"


class Tool(NamedTuple):
    """The client, the browser of its user, and the provider."""

    call: NodeClient
    browser: ScanBrowser
    provider: Provider

    async def location(self, url: str, person: str) -> str:
        """Return where the browser is sent after the scan."""
        return await self.browser.redirect_after_sign_in(url, person)

    async def sign_in(self, person: str, **parameters: str) -> dict[str, Any]:
        """Return the tokens of a new sign-in."""
        fields = {"redirect_uri": CALLBACK, "scope": SCOPE, **parameters}
        url = await self.call("authorize", parameters=fields)
        return dict(await self.call("callback", url=await self.location(url, person)))


@pytest.fixture
async def tool(provider: Provider) -> AsyncIterator[Tool]:
    secret = await provider.add_app(
        "tool",
        redirect_urls=[CALLBACK],
        post_logout_urls=[AFTER_LOGOUT],
        scopes=["openid", "profile", "email", "groups", "offline_access"],
    )
    async with (
        running_client("openid_client.mjs") as call,
        ScanBrowser(provider.issuer, phones=provider.phones) as browser,
    ):
        await call("discover", issuer=provider.issuer, id="tool", secret=secret, auth="basic")
        yield Tool(call, browser, provider)


async def test_sign_in_works_after_a_key_rotation(tool: Tool) -> None:
    before = await tool.sign_in(new_person())

    await tool.provider.rotate_keys()

    person = new_person()
    after = await tool.sign_in(person)
    assert after["claims"]["sub"] == f"pretend:{person}"
    key_ids = [jwt.get_unverified_header(one["id_token"])["kid"] for one in (before, after)]
    assert key_ids[0] != key_ids[1]


@pytest.mark.parametrize("auth", ["basic", "post"])
async def test_code_is_exchanged_for_tokens(provider: Provider, auth: str) -> None:
    secret = await provider.add_app("tool", redirect_urls=[CALLBACK])
    person = new_person()
    async with (
        running_client("openid_client.mjs") as call,
        ScanBrowser(provider.issuer, phones=provider.phones) as browser,
    ):
        await call("discover", issuer=provider.issuer, id="tool", secret=secret, auth=auth)
        tokens = await Tool(call, browser, provider).sign_in(person, scope="openid profile")
        claims = await call(
            "userinfo", token=tokens["access_token"], subject=tokens["claims"]["sub"]
        )

    assert tokens["claims"]["sub"] == claims["sub"] == f"pretend:{person}"
    assert tokens["claims"]["preferred_username"] == claims["preferred_username"]


async def test_public_app_signs_in_with_pkce(provider: Provider) -> None:
    await provider.add_app("spa", client_type="public", redirect_urls=[CALLBACK])
    async with (
        running_client("openid_client.mjs") as call,
        ScanBrowser(provider.issuer, phones=provider.phones) as browser,
    ):
        await call("discover", issuer=provider.issuer, id="spa", secret=None, auth="none")
        tokens = await Tool(call, browser, provider).sign_in(new_person(), scope="openid")

    assert tokens["claims"]["aud"] == "spa"


async def test_pushed_request_is_accepted(tool: Tool) -> None:
    fields = {"redirect_uri": CALLBACK, "scope": "openid"}
    url = await tool.call("authorize", parameters=fields, par=True)

    tokens = await tool.call("callback", url=await tool.location(url, new_person()))

    assert set(URL(url).query) == {"client_id", "request_uri"}
    assert tokens["claims"]["azp"] == "tool"


async def test_max_age_yields_an_authentication_time(tool: Tool) -> None:
    tokens = await tool.sign_in(new_person(), max_age="600")

    assert tokens["claims"]["auth_time"] <= tokens["claims"]["iat"]


async def test_prompt_none_without_sign_in_is_refused(tool: Tool) -> None:
    fields = {"redirect_uri": CALLBACK, "scope": "openid", "prompt": "none"}
    url = await tool.call("authorize", parameters=fields)

    with pytest.raises(Refusal) as refusal:
        await tool.call("callback", url=await tool.browser.redirect_of(url))

    assert refusal.value.error["error"] == "login_required"


async def test_introspection_describes_an_active_token(tool: Tool) -> None:
    person = new_person()
    tokens = await tool.sign_in(person)

    active = await tool.call("introspect", token=tokens["access_token"])

    assert active["active"] is True
    assert (active["sub"], active["client_id"]) == (f"pretend:{person}", "tool")
    assert active["sid"] == tokens["claims"]["sid"]


async def test_repeated_refresh_returns_the_same_token(tool: Tool) -> None:
    tokens = await tool.sign_in(new_person())

    first, second = [await tool.call("refresh", token=tokens["refresh_token"]) for _ in range(2)]

    assert first["refresh_token"] == second["refresh_token"] != tokens["refresh_token"]
    assert first["claims"]["sid"] == tokens["claims"]["sid"]


async def test_revoked_refresh_token_is_refused(tool: Tool) -> None:
    tokens = await tool.sign_in(new_person())
    await tool.call("revoke", token=tokens["refresh_token"])

    with pytest.raises(Refusal) as refusal:
        await tool.call("refresh", token=tokens["refresh_token"])

    assert (refusal.value.error["error"], refusal.value.error["status"]) == ("invalid_grant", 400)
    assert (await tool.call("introspect", token=tokens["access_token"])) == {"active": False}


async def test_logout_url_leads_back_to_the_app(tool: Tool) -> None:
    tokens = await tool.sign_in(new_person(), scope="openid")
    url = await tool.call(
        "logout",
        parameters={
            "id_token_hint": tokens["id_token"],
            "post_logout_redirect_uri": AFTER_LOGOUT,
            "state": "s",
        },
    )

    assert await tool.browser.redirect_of(url) == f"{AFTER_LOGOUT}?state=s"
    assert (await tool.call("introspect", token=tokens["access_token"])) == {"active": False}


async def test_device_grant_yields_an_id_token(tool: Tool) -> None:
    person = new_person()
    device = await tool.call("device", parameters={"scope": "openid profile"})
    async with PhoneClient(tool.provider.phones, person) as phone:
        await phone.post("scan", {"scene": device["user_code"]})
        login_id = device["device_code"].partition(".")[0]
        assert (await phone.post("confirm", {"login_id": login_id})).status == 200

    tokens = await tool.call("poll", device=device)

    assert tokens["claims"]["sub"] == f"pretend:{person}"


async def test_wrong_secret_is_reported_as_invalid_client(provider: Provider) -> None:
    await provider.add_app("tool", redirect_urls=[CALLBACK])
    async with running_client("openid_client.mjs") as call:
        await call("discover", issuer=provider.issuer, id="tool", secret="wrong", auth="basic")
        with pytest.raises(Refusal) as refusal:
            await call("introspect", token="any")

    assert (refusal.value.error["status"], refusal.value.error["challenge"]) == (401, "basic")
