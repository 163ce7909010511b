"""Envoy as a gateway signs new persons in, also while the keys are rotated."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest
from aiohttp import web

from broker.cli.demo.gateway import APP_ID
from broker.infrastructure.runtime.server import Site, serve_sites
from tests.support.clients import PhoneClient
from tests.support.environment import free_port
from tests.support.oidc_browser import ScanBrowser, new_person, parse
from tests.support.oidc_provider import Provider, sign_in_after_rotation
from tests.support.servers.envoy import running_envoy


class Gateway(NamedTuple):
    url: str
    provider: Provider
    browser: ScanBrowser

    def tokens(self) -> dict[str, str]:
        """Return Envoy's cookies with encrypted tokens."""
        jar = self.browser.http.cookie_jar
        return {one.key: one.value for one in jar if one.key in ("BearerToken", "RefreshToken")}

    def expire_access_token(self) -> None:
        """Drop the cookies that a browser keeps for as long as the access token is valid."""
        short = ("BearerToken", "IdToken", "OauthExpires", "OauthHMAC")
        self.browser.http.cookie_jar.clear(lambda cookie: cookie.key in short)


@pytest.fixture
async def gateway(provider: Provider, tmp_path: Path) -> AsyncIterator[Gateway]:
    async def subject(request: web.Request) -> web.Response:
        return web.Response(text=request.headers.get("x-subject", "nothing"))

    upstream = web.Application()
    upstream.router.add_get("/{path:.*}", subject)
    upstream_port, port = free_port(), free_port()
    url = f"http://127.0.0.1:{port}"
    secret = await provider.add_app(
        APP_ID,
        redirect_urls=[f"{url}/callback"],
        post_logout_urls=[f"{url}/"],
        scopes=["openid", "profile", "offline_access"],
        sso=True,
    )
    async with (
        serve_sites([Site("upstream", upstream, "127.0.0.1", upstream_port, "PORT")]),
        running_envoy(tmp_path / "envoy", port, provider.issuer, secret, upstream_port),
        ScanBrowser(provider.issuer, phones=provider.phones, secure=(url,)) as browser,
    ):
        yield Gateway(url, provider, browser)


async def test_upstream_gets_the_subject(gateway: Gateway) -> None:
    person = new_person()

    page = await gateway.browser.sign_in(f"{gateway.url}/page", person)

    assert (page.status, page.text) == (200, f"pretend:{person}")


async def test_sign_in_works_after_a_key_rotation(gateway: Gateway) -> None:
    await gateway.browser.sign_in(f"{gateway.url}/page", new_person())

    page = await sign_in_after_rotation(
        gateway.provider, f"{gateway.url}/page", secure=(gateway.url,)
    )

    assert page.status == 200
    assert page.text.startswith("pretend:")


async def test_expired_access_token_is_refreshed(gateway: Gateway) -> None:
    person = new_person()
    await gateway.browser.sign_in(f"{gateway.url}/page", person)
    before = gateway.tokens()

    gateway.expire_access_token()
    page = await gateway.browser.open(f"{gateway.url}/page")

    assert (page.status, page.text) == (200, f"pretend:{person}")
    assert [url.path for url in page.trail] == ["/page"]
    after = gateway.tokens()
    assert before.keys() == after.keys()
    assert [name for name in after if after[name] == before[name]] == []


async def test_ended_sign_in_is_not_refreshed(gateway: Gateway) -> None:
    """Envoy has no back-channel logout: its access token is valid until it expires."""
    person = new_person()
    await gateway.browser.sign_in(f"{gateway.url}/page", person)

    async with PhoneClient(gateway.provider.phones, person) as phone:
        assert (await phone.delete("signins")).body == {"ended": 1}

    assert (await gateway.browser.open(f"{gateway.url}/page")).text == f"pretend:{person}"
    gateway.expire_access_token()
    assert parse((await gateway.browser.open(f"{gateway.url}/page")).text).widget


async def test_sign_out_ends_both_sessions(gateway: Gateway) -> None:
    await gateway.browser.sign_in(f"{gateway.url}/page", new_person())

    page = await gateway.browser.open(f"{gateway.url}/signout")

    assert any(url.path == "/oauth/logout" for url in page.trail)
    assert parse((await gateway.browser.open(f"{gateway.url}/page")).text).widget
