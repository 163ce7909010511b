"""Apache's mod_auth_openidc, unmodified, signs new persons in by scan."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from yarl import URL

from tests.support.clients import PhoneClient
from tests.support.environment import free_port
from tests.support.oidc_browser import ScanBrowser, new_person, parse
from tests.support.oidc_provider import Provider, sign_in_after_rotation
from tests.support.servers.apache import running_apache
from tests.support.waiting import eventually


class Site(NamedTuple):
    url: str
    provider: Provider
    browser: ScanBrowser

    async def info(self) -> dict[str, Any]:
        """Return what mod_auth_openidc knows about the session; {} without one."""
        page = await self.browser.open(f"{self.url}/cb?info=json")
        return dict(json.loads(page.text)) if page.status == 200 else {}


@pytest.fixture
async def site(provider: Provider) -> AsyncIterator[Site]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    secret = await provider.add_app(
        "apache",
        redirect_urls=[f"{url}/cb"],
        post_logout_urls=[f"{url}/"],
        backchannel_logout_url=f"{url}/cb?logout=backchannel",
        scopes=["openid", "profile", "offline_access"],
    )
    with tempfile.TemporaryDirectory(prefix="scan-login-apache-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # if root starts Apache, its workers run as another user
        async with (
            running_apache(folder, port, provider.issuer, secret),
            ScanBrowser(provider.issuer, phones=provider.phones) as browser,
        ):
            yield Site(url, provider, browser)


async def test_new_person_reaches_the_page(site: Site) -> None:
    person = new_person()

    page = await site.browser.sign_in(site.url, person)

    assert (page.status, page.text, page.url.path) == (200, "welcome", "/")
    info = await site.info()
    assert info["id_token"]["sub"] == info["userinfo"]["sub"] == f"pretend:{person}"
    assert info["userinfo"]["preferred_username"] == info["id_token"]["preferred_username"]


async def test_sign_in_works_after_a_key_rotation(site: Site) -> None:
    await site.browser.sign_in(site.url, new_person())

    page = await sign_in_after_rotation(site.provider, site.url)

    assert (page.status, page.text) == (200, "welcome")


async def test_forced_refresh_yields_another_access_token(site: Site) -> None:
    await site.browser.sign_in(site.url, new_person())
    before = await site.info()

    refresh = URL(f"{site.url}/cb").with_query(
        refresh=f"{site.url}/", access_token=before["access_token"]
    )
    page = await site.browser.open(refresh)

    assert "error_code" not in str(page.url)
    after = await site.info()
    assert after["access_token"] != before["access_token"]
    assert after["refresh_token"] != before["refresh_token"]
    assert after["id_token"]["sub"] == before["id_token"]["sub"]


async def test_logout_at_the_app_ends_the_sign_in(site: Site) -> None:
    await site.browser.sign_in(site.url, new_person())

    await site.browser.open(URL(f"{site.url}/cb").with_query(logout=f"{site.url}/"))

    assert await site.info() == {}
    assert parse((await site.browser.open(site.url)).text).widget


async def test_backchannel_logout_ends_the_session(site: Site) -> None:
    person = new_person()
    await site.browser.sign_in(site.url, person)
    assert await site.info()

    async with PhoneClient(site.provider.phones, person) as phone:
        assert (await phone.delete("signins")).body == {"ended": 1}

    async def is_signed_out() -> bool:
        return await site.info() == {}

    await eventually(is_signed_out)
