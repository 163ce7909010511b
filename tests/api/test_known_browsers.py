"""Browsers that the policy knows by their cookies, on the broker's own login page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from yarl import URL

from tests.support.builders import StartBroker
from tests.support.clients import Answer, Payload, PhoneClient, PythonBrowser
from tests.support.logins import secret_of
from tests.support.oidc_browser import ScanBrowser, new_person, parse
from tests.support.oidc_site import OIDCSite, a_site

OTHER_PAGE = "https://page.example"


class Visit(NamedTuple):
    site: OIDCSite
    browser: ScanBrowser

    @asynccontextmanager
    async def login(self, cookie: str, origin: str = "") -> AsyncIterator[PythonBrowser]:
        """A page of the broker, or of `origin`, in a browser with this header `Cookie`."""
        browser = PythonBrowser(["websocket"])
        own = str(URL(self.site.provider.issuer).origin())
        browser._http.headers.update({"Origin": origin or own, "Cookie": cookie})
        await browser.connect(self.site.provider.issuer, {"app": self.site.id})
        try:
            yield browser
        finally:
            await browser.close()

    async def scan(self, begun: Payload, person: str, *can: str) -> Answer:
        async with PhoneClient(self.site.provider.phones, person) as phone:
            return await phone.post("scan", {"scene": begun["scene"], "can": can})

    async def device_cookie(self, person: str) -> str:
        """Sign in with the number that the policy requires, and return the device cookie."""
        page = await self.browser.open(self.site.url())
        async with self.login("") as browser:
            begun = await browser.emit("begin", {})
            await self.scan(begun, person, "match")
            number = (await browser.emit("resume", secret_of(begun)))["match"]
            async with PhoneClient(self.site.provider.phones, person) as phone:
                await phone.post("confirm", {"login_id": begun["login_id"], "match": number})
        fields = {"request": parse(page.text).widget["request"], **secret_of(begun)}
        answer = await self.browser.submit_login(page, fields, follow=False)
        assert answer.status == 303, answer.text
        [cookie] = [one for one in self.browser.http.cookie_jar if one.key == "scan-login-d"]
        return cookie.value


@pytest.fixture
async def visit(start_broker: StartBroker, tmp_path: Path) -> AsyncIterator[Visit]:
    """An app of a broker with the built-in policy. Loopback addresses do not spare a challenge."""
    settings = {"policy": "built-in"}
    async with a_site(start_broker, tmp_path, settings=settings, origins=[OTHER_PAGE]) as visit:
        yield Visit(*visit)


async def test_device_cookie_spares_the_challenge(visit: Visit) -> None:
    person = new_person()
    cookie = await visit.device_cookie(person)

    async with visit.login(f"scan-login-d={cookie}") as browser:
        scanned = await visit.scan(await browser.emit("begin", {}), person)

    assert scanned.status == 200
    assert scanned.body["browser"]["known"] is True
    assert "match" not in scanned.body


async def test_cookie_of_another_person_spares_no_challenge(visit: Visit) -> None:
    cookie = await visit.device_cookie(new_person())

    async with visit.login(f"scan-login-d={cookie}") as browser:
        scanned = await visit.scan(await browser.emit("begin", {}), new_person(), "match")

    assert scanned.body["browser"]["known"] is False
    assert "match" in scanned.body


@pytest.mark.parametrize("change", ["mac", "end", "key"])
async def test_forged_device_cookie_spares_no_challenge(visit: Visit, change: str) -> None:
    person = new_person()
    key, end, mac = (await visit.device_cookie(person)).split(".")
    forged = {
        "mac": f"{key}.{end}.{'A' * len(mac)}",
        "end": f"{key}.{int(end) + 1}.{mac}",
        "key": f"{'0' * len(key)}.{end}.{mac}",
    }

    async with visit.login(f"scan-login-d={forged[change]}") as browser:
        scanned = await visit.scan(await browser.emit("begin", {}), person, "match")

    assert scanned.body["browser"]["known"] is False


async def test_page_of_another_site_knows_no_browser(visit: Visit) -> None:
    person = new_person()
    cookie = await visit.device_cookie(person)

    async with visit.login(f"scan-login-d={cookie}", OTHER_PAGE) as browser:
        scanned = await visit.scan(await browser.emit("begin", {}), person, "match")

    assert "known" not in scanned.body["browser"]
    assert scanned.body["browser"]["origin"] == OTHER_PAGE


@pytest.mark.parametrize("cookie", ["", "=;;\x00", "scan-login-d=", "scan-login=x", 'a="'])
async def test_malformed_cookies_begin_a_login(visit: Visit, cookie: str) -> None:
    async with visit.login(cookie.replace("\x00", "")) as browser:
        begun = await browser.emit("begin", {})

    assert "error" not in begun
