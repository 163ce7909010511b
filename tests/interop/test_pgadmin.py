"""pgAdmin signs new persons in by scan."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.environment import free_port
from tests.support.interop import Interop
from tests.support.oidc_browser import Page, ScanBrowser, new_person, parse
from tests.support.servers.pgadmin import running_pgadmin

pytestmark = pytest.mark.interop


class PgAdmin(NamedTuple):
    url: str
    interop: Interop

    async def login_page(self, browser: ScanBrowser) -> Page:
        """Press the button of the provider in pgAdmin's page, and return the broker's page."""
        page = await browser.open(f"{self.url}/login")
        [token] = re.findall(r'"csrfToken": "([^"]+)"', page.text)
        fields = {"csrf_token": token, "oauth2_button": "scan-login"}
        return await browser.post(f"{self.url}/authenticate/login", fields, Referer=str(page.url))

    async def sign_in(self, browser: ScanBrowser, person: str) -> Page:
        return await browser.finish(await self.login_page(browser), person)


@pytest.fixture
async def pgadmin(interop: Interop, tmp_path: Path) -> AsyncIterator[PgAdmin]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    configuration = await interop.add_product("pgadmin", url, sso=True)
    async with running_pgadmin(tmp_path / "pgadmin", port, configuration):
        yield PgAdmin(url, interop)


async def test_page_names_the_person(pgadmin: PgAdmin) -> None:
    person = new_person()

    async with pgadmin.interop.browser() as browser:
        page = await pgadmin.sign_in(browser, person)
        script = await browser.open(f"{pgadmin.url}/browser/js/utils.js")

    assert (page.status, page.url.path) == (200, "/browser/")
    assert f"username: '{person}'" in script.text


async def test_sign_in_works_after_a_key_rotation(pgadmin: PgAdmin) -> None:
    async with pgadmin.interop.browser() as browser:
        await pgadmin.sign_in(browser, new_person())

    await pgadmin.interop.provider.rotate_keys()

    async with pgadmin.interop.browser() as browser:
        page = await pgadmin.sign_in(browser, new_person())
    assert page.url.path == "/browser/"


async def test_sign_out_ends_both_sessions(pgadmin: PgAdmin) -> None:
    async with pgadmin.interop.browser() as browser:
        await pgadmin.sign_in(browser, new_person())

        page = await browser.open(f"{pgadmin.url}/oauth2/logout")

        assert any(url.path == "/oauth/logout" for url in page.trail)
        assert page.url.path == "/login"
        assert parse((await pgadmin.login_page(browser)).text).widget
