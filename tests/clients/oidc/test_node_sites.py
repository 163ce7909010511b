"""Sites with Auth.js and with express-openid-connect sign new persons in by scan."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from deploy.processes import Process, wait_until_listening
from tests.support.clients import PhoneClient
from tests.support.environment import free_port
from tests.support.node_client import FOLDER, node
from tests.support.oidc_browser import ScanBrowser, new_person, parse
from tests.support.oidc_provider import Provider, sign_in_after_rotation
from tests.support.waiting import eventually


class Site(NamedTuple):
    url: str
    provider: Provider
    browser: ScanBrowser

    async def json(self, path: str) -> Any:
        return json.loads((await self.browser.open(f"{self.url}{path}")).text)


@asynccontextmanager
async def running_site(program: str, log: Path, **config: object) -> AsyncIterator[str]:
    environment = {**os.environ, "SITE": json.dumps(config)}
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            node(), str(FOLDER / program), stdout=file, stderr=file, env=environment
        )
    running = Process(program, process, log)
    try:
        await wait_until_listening(running, int(str(config["port"])))
        yield f"http://127.0.0.1:{config['port']}"
    finally:
        await running.stop()


@pytest.fixture
async def express(provider: Provider, tmp_path: Path) -> AsyncIterator[Site]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    secret = await provider.add_app(
        "express",
        redirect_urls=[f"{url}/callback"],
        post_logout_urls=[url],
        backchannel_logout_url=f"{url}/backchannel-logout",
        scopes=["openid", "profile", "offline_access"],
    )
    async with (
        running_site(
            "express_openid_connect.mjs",
            tmp_path / "site.log",
            port=port,
            issuer=provider.issuer,
            id="express",
            secret=secret,
        ),
        ScanBrowser(provider.issuer, phones=provider.phones) as browser,
    ):
        yield Site(url, provider, browser)


@pytest.fixture
async def auth_js(provider: Provider, tmp_path: Path) -> AsyncIterator[Site]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    secret = await provider.add_app(
        "authjs",
        redirect_urls=[f"{url}/auth/callback/scan"],
        scopes=["openid", "profile", "offline_access"],
    )
    async with (
        running_site(
            "auth_js.mjs",
            tmp_path / "site.log",
            port=port,
            issuer=provider.issuer,
            id="authjs",
            secret=secret,
        ),
        ScanBrowser(provider.issuer, phones=provider.phones) as browser,
    ):
        yield Site(url, provider, browser)


async def test_express_reads_the_user_from_the_id_token(express: Site) -> None:
    person = new_person()

    page = await express.browser.sign_in(express.url, person)

    user = json.loads(page.text)
    assert user["sub"] == f"pretend:{person}"
    assert user["preferred_username"].startswith("u-")


async def test_express_accepts_tokens_after_a_key_rotation(express: Site) -> None:
    await express.browser.sign_in(express.url, new_person())

    page = await sign_in_after_rotation(express.provider, express.url)

    assert json.loads(page.text)["sub"].startswith("pretend:")


async def test_express_refresh_yields_other_tokens(express: Site) -> None:
    person = new_person()
    await express.browser.sign_in(express.url, person)
    before = await express.json("/tokens")

    after = await express.json("/refresh")

    assert after["access"] != before["access"]
    assert after["refresh"] != before["refresh"]
    assert (await express.json("/"))["sub"] == f"pretend:{person}"


async def test_express_logout_ends_the_sign_in(express: Site) -> None:
    await express.browser.sign_in(express.url, new_person())

    page = await express.browser.open(f"{express.url}/logout")

    assert any(url.path.endswith("/oauth/logout") for url in page.trail)
    assert parse((await express.browser.open(express.url)).text).widget


async def test_express_session_ends_by_backchannel_logout(express: Site) -> None:
    person = new_person()
    await express.browser.sign_in(express.url, person)
    assert (await express.json("/"))["sub"] == f"pretend:{person}"

    async with PhoneClient(express.provider.phones, person) as phone:
        assert (await phone.delete("signins")).body == {"ended": 1}

    async def is_signed_out() -> bool:
        return bool(parse((await express.browser.open(express.url)).text).widget)

    await eventually(is_signed_out)


async def test_auth_js_session_has_the_name(auth_js: Site) -> None:
    """Auth.js reads only the ID token. Also after a key rotation."""
    await signs_in_at_auth_js(auth_js, auth_js.browser)

    await auth_js.provider.rotate_keys()

    phones = auth_js.provider.phones
    async with ScanBrowser(auth_js.provider.issuer, phones=phones) as other:
        await signs_in_at_auth_js(auth_js, other)


async def test_auth_js_refresh_yields_other_tokens(auth_js: Site) -> None:
    await signs_in_at_auth_js(auth_js, auth_js.browser)
    before = await auth_js.json("/")

    await update_auth_js_session(auth_js)

    after = await auth_js.json("/")
    assert after["access"] != before["access"]
    assert after["refresh"] != before["refresh"]
    assert after["user"] == before["user"]


async def test_auth_js_session_ends_with_the_refresh(auth_js: Site) -> None:
    """Auth.js has no back-channel logout: the session stays until the site refreshes."""
    person = await signs_in_at_auth_js(auth_js, auth_js.browser)

    async with PhoneClient(auth_js.provider.phones, person) as phone:
        assert (await phone.delete("signins")).body == {"ended": 1}

    assert "user" in await auth_js.json("/")
    await update_auth_js_session(auth_js)
    assert await auth_js.json("/") is None


async def update_auth_js_session(site: Site) -> None:
    body = {"csrfToken": (await site.json("/auth/csrf"))["csrfToken"]}
    async with site.browser.http.post(f"{site.url}/auth/session", json=body) as response:
        assert response.status == 200


async def signs_in_at_auth_js(site: Site, browser: ScanBrowser) -> str:
    """Sign a new person in, and return the name."""
    token = json.loads((await browser.open(f"{site.url}/auth/csrf")).text)
    fields = {"csrfToken": token["csrfToken"], "callbackUrl": site.url}
    page = await browser.post(f"{site.url}/auth/signin/scan", fields)

    person = new_person()
    after = await browser.finish(page, person)

    assert str(after.url).rstrip("/") == site.url
    assert "user" in json.loads(after.text)
    return person
