"""Synapse, a Matrix homeserver, signs new persons in by scan."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
from yarl import URL

from tests.support.clients import PhoneClient
from tests.support.environment import free_port
from tests.support.interop import Interop
from tests.support.oidc_browser import new_person
from tests.support.servers.synapse import NAME, running_synapse
from tests.support.waiting import eventually

pytestmark = pytest.mark.interop


class Device(NamedTuple):
    """A Matrix client after its login.

    api: the URL of the homeserver's API. session: the answer to the login.
    """

    api: str
    session: dict[str, Any]

    async def call(self, method: str, path: str) -> tuple[int, dict[str, Any]]:
        headers = {"Authorization": f"Bearer {self.session['access_token']}"}
        async with (
            aiohttp.ClientSession(self.api, headers=headers) as http,
            http.request(method, path) as response,
        ):
            return response.status, await response.json()

    async def error(self) -> str | None:
        """Return the error of a call, or None if the device is signed in."""
        _, answer = await self.call("GET", "account/whoami")
        return answer.get("errcode")

    async def is_signed_out(self) -> bool:
        return await self.error() == "M_UNKNOWN_TOKEN"


class Homeserver(NamedTuple):
    url: str
    interop: Interop

    @property
    def api(self) -> str:
        return f"{self.url}/_matrix/client/v3/"

    def begin(self) -> URL:
        """Return the URL that begins a sign-in and ends at a page of Synapse."""
        begin = URL(f"{self.api}login/sso/redirect/oidc-scan-login")
        return begin.with_query(redirectUrl=f"{self.url}/_matrix/static/client/login/")

    async def sign_in(self, person: str) -> Device:
        async with self.interop.browser(self.url) as browser:
            page = await browser.sign_in(self.begin(), person)
        assert "loginToken" in page.url.query, page.text
        return await self.log_in(page.url.query["loginToken"])

    async def log_in(self, token: str) -> Device:
        body = {"type": "m.login.token", "token": token}
        async with (
            aiohttp.ClientSession(self.api) as http,
            http.post("login", json=body) as response,
        ):
            assert response.status == 200, await response.text()
            return Device(self.api, await response.json())


@pytest.fixture
async def homeserver(interop: Interop, tmp_path: Path) -> AsyncIterator[Homeserver]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    configuration = await interop.add_product("synapse", url)
    async with running_synapse(tmp_path / "synapse", port, configuration):
        yield Homeserver(url, interop)


async def test_user_has_the_name_of_the_person(homeserver: Homeserver) -> None:
    person = new_person()

    device = await homeserver.sign_in(person)

    user_id = f"@{person}:{NAME}"
    assert device.session["user_id"] == user_id
    _, profile = await device.call("GET", f"profile/{user_id}")
    assert profile["displayname"] == "Ada Lovelace"


async def test_sign_in_works_after_a_key_rotation(homeserver: Homeserver) -> None:
    await homeserver.sign_in(new_person())

    await homeserver.interop.provider.rotate_keys()

    device = await homeserver.sign_in(new_person())
    assert await device.error() is None


async def test_matrix_logout_ends_the_session(homeserver: Homeserver) -> None:
    device = await homeserver.sign_in(new_person())
    assert await device.error() is None

    await device.call("POST", "logout")

    assert await device.is_signed_out()


async def test_backchannel_logout_ends_the_matrix_session(homeserver: Homeserver) -> None:
    person = new_person()
    device, other = await homeserver.sign_in(person), await homeserver.sign_in(new_person())
    assert await device.error() is None

    async with PhoneClient(homeserver.interop.provider.phones, person) as phone:
        assert (await phone.delete("signins")).body == {"ended": 1}

    await eventually(device.is_signed_out)
    assert await other.error() is None


async def test_backchannel_logout_works_after_a_key_rotation(homeserver: Homeserver) -> None:
    person = new_person()
    device = await homeserver.sign_in(person)

    await homeserver.interop.provider.rotate_keys()
    async with PhoneClient(homeserver.interop.provider.phones, person) as phone:
        await phone.delete("signins")

    await eventually(device.is_signed_out)
