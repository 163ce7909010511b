"""JupyterHub with oauthenticator signs new persons in by scan."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.clients import PhoneClient
from tests.support.environment import free_port
from tests.support.interop import Interop
from tests.support.oidc_browser import Page, ScanBrowser, new_person, parse
from tests.support.servers.jupyterhub import running_jupyterhub
from tests.support.waiting import eventually

pytestmark = pytest.mark.interop

REFRESH = f"""
c.Authenticator.enable_auth_state = True
c.Authenticator.auth_refresh_age = 1
c.CryptKeeper.keys = ["{secrets.token_hex(32)}"]
"""
"""Settings with which JupyterHub keeps the tokens, and reads userinfo again at each visit."""


class Hub(NamedTuple):
    url: str
    interop: Interop
    browser: ScanBrowser
    log: Path

    async def home(self) -> Page:
        return await self.browser.open(f"{self.url}/hub/home")

    async def sign_in(self, person: str) -> Page:
        return await self.browser.sign_in(f"{self.url}/hub/oauth_login", person)


@asynccontextmanager
async def running_hub(
    interop: Interop, folder: Path, settings: str = "", **fields: object
) -> AsyncIterator[Hub]:
    url = f"http://127.0.0.1:{free_port()}"
    configuration = await interop.add_product("jupyterhub", url, **fields)
    async with (
        running_jupyterhub(folder / "jupyterhub", url, configuration + settings) as log,
        interop.browser() as browser,
    ):
        yield Hub(url, interop, browser, log)


@pytest.fixture
async def hub(interop: Interop, tmp_path: Path) -> AsyncIterator[Hub]:
    async with running_hub(interop, tmp_path, sso=True) as hub:
        yield hub


async def test_home_page_shows_the_person(hub: Hub) -> None:
    person = new_person()

    page = await hub.sign_in(person)

    assert (page.status, page.url.path) == (200, "/hub/home")
    assert person in page.text


async def test_sign_in_works_after_a_key_rotation(hub: Hub) -> None:
    await hub.sign_in(new_person())

    await hub.interop.provider.rotate_keys()

    person = new_person()
    async with hub.interop.browser() as other:
        page = await other.sign_in(f"{hub.url}/hub/oauth_login", person)
    assert person in page.text


async def test_sign_out_ends_both_sessions(hub: Hub) -> None:
    await hub.sign_in(new_person())

    question = await hub.browser.open(f"{hub.url}/hub/logout")
    await hub.browser.submit(question)

    assert (await hub.home()).url.path == "/hub/login"
    assert parse((await hub.browser.open(f"{hub.url}/hub/oauth_login")).text).widget


@pytest.fixture
async def refreshing_hub(interop: Interop, tmp_path: Path) -> AsyncIterator[Hub]:
    async with running_hub(interop, tmp_path, REFRESH, refresh="always") as hub:
        yield hub


async def test_invalid_access_token_is_refreshed(refreshing_hub: Hub) -> None:
    person = new_person()
    await refreshing_hub.sign_in(person)

    await refreshing_hub.interop.provider.rotate_keys(ago=3600)

    async def is_refreshed() -> bool:
        assert person in (await refreshing_hub.home()).text
        return f"Refreshing oauth access token for {person}" in refreshing_hub.log.read_text()

    await eventually(is_refreshed)
    assert person in (await refreshing_hub.home()).text


async def test_end_on_the_phone_ends_the_refresh(refreshing_hub: Hub) -> None:
    person = new_person()
    await refreshing_hub.sign_in(person)

    async with PhoneClient(refreshing_hub.interop.provider.phones, person) as phone:
        await phone.delete("signins")

    async def is_signed_out() -> bool:
        return (await refreshing_hub.home()).url.path == "/hub/login"

    await eventually(is_signed_out)
