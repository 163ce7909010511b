"""The sign-ins of a person, on the phone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.builders import StartBroker
from tests.support.clients import PhoneClient
from tests.support.oidc_browser import ScanBrowser, new_person
from tests.support.oidc_provider import one_instance
from tests.support.oidc_site import OIDCSite, add_site

OFFLINE = "openid offline_access"


@pytest.fixture
async def site(start_broker: StartBroker, tmp_path: Path) -> AsyncIterator[OIDCSite]:
    async with one_instance(start_broker, tmp_path) as provider:
        yield await add_site(provider, sso=True, scopes=["openid", "profile", "offline_access"])


@pytest.fixture
async def browser(site: OIDCSite) -> AsyncIterator[ScanBrowser]:
    async with ScanBrowser(site.provider.issuer) as browser:
        yield browser


@pytest.fixture
def person() -> str:
    return new_person()


@pytest.fixture
async def phone(site: OIDCSite, person: str) -> AsyncIterator[PhoneClient]:
    async with PhoneClient(site.provider.phones, person) as phone:
        yield phone


async def sign_ins(phone: PhoneClient) -> list[dict[str, Any]]:
    answer = await phone.get("signins")
    assert answer.status == 200, answer.body
    found: list[dict[str, Any]] = answer.body["signins"]
    return found


async def test_sign_in_is_listed_with_its_browser(
    site: OIDCSite, browser: ScanBrowser, phone: PhoneClient, person: str
) -> None:
    assert await sign_ins(phone) == []

    tokens = await site.signed_in(browser, person)

    [one] = await sign_ins(phone)
    assert one.pop("began_at") <= one.pop("used_at")
    assert one.pop("user_agent").startswith("Python")
    assert one == {
        "sid": tokens["claims"]["sid"],
        "apps": ["Site"],
        "ip": "127.0.0.1",
        "offline": False,
    }


async def test_sign_in_of_another_app_joins_the_list(
    site: OIDCSite, browser: ScanBrowser, phone: PhoneClient, person: str
) -> None:
    wiki = await add_site(site.provider, "wiki", sso=True)
    await site.signed_in(browser, person)

    await browser.redirect_of(wiki.url())

    assert [one["apps"] for one in await sign_ins(phone)] == [["Site", "Wiki"]]


async def test_ended_sign_in_refreshes_no_token(
    site: OIDCSite, browser: ScanBrowser, phone: PhoneClient, person: str
) -> None:
    tokens = await site.signed_in(browser, person, scope=OFFLINE)

    answer = await phone.delete(f"signins/{tokens['claims']['sid']}")

    assert (answer.status, answer.body) == (200, {"ended": 1})
    assert await sign_ins(phone) == []
    assert (await site.refresh(tokens["refresh_token"]))[1]["error"] == "invalid_grant"
    assert "login_required" in await browser.redirect_of(site.url(prompt="none"))


async def test_all_sign_ins_end(
    site: OIDCSite, browser: ScanBrowser, phone: PhoneClient, person: str
) -> None:
    first = await site.signed_in(browser, person, scope=OFFLINE)
    async with ScanBrowser(site.provider.issuer) as other:
        second = await site.signed_in(other, person, scope=OFFLINE)

    answer = await phone.delete("signins")

    assert answer.body == {"ended": 2}
    assert await sign_ins(phone) == []
    for tokens in (first, second):
        assert (await site.refresh(tokens["refresh_token"]))[1]["error"] == "invalid_grant"


async def test_offline_tokens_are_listed_after_logout(
    site: OIDCSite, browser: ScanBrowser, phone: PhoneClient, person: str
) -> None:
    tokens = await site.signed_in(browser, person, scope=OFFLINE)
    logout = f"{site.provider.issuer}/oauth/logout?id_token_hint={tokens['id_token']}"
    await browser.open(logout)

    [one] = await sign_ins(phone)

    assert (one["sid"], one["offline"], one["ip"]) == (tokens["claims"]["sid"], True, "")
    assert (await site.refresh(tokens["refresh_token"]))[0] == 200
    assert (await phone.delete(f"signins/{one['sid']}")).body == {"ended": 1}
    assert await sign_ins(phone) == []


async def test_unknown_sign_in_ends_nothing(phone: PhoneClient) -> None:
    assert (await phone.delete(f"signins/{'x' * 22}")).body == {"ended": 0}
    assert (await phone.delete("signins")).body == {"ended": 0}
