"""Instances with one Redis that get the same code, refresh token or login at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from tests.support.app_admin import Admin
from tests.support.builders import StartBroker
from tests.support.clients import PhoneClient
from tests.support.oidc_browser import FORM_HEADERS, LOGIN, ScanBrowser, new_person, parse
from tests.support.oidc_provider import COMMON, Provider
from tests.support.oidc_site import CALLBACK, OIDCSite, add_site, answer_in
from tests.support.servers.redis import RedisServer, redis_program, running

pytestmark = pytest.mark.usefixtures("long_redis_limits")

OFFLINE = "openid offline_access"


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with running(redis_program()) as server:
        yield server


@pytest.fixture
async def site(
    redis: RedisServer, start_broker: StartBroker, tmp_path: Path
) -> AsyncIterator[OIDCSite]:
    """An app of two instances. Phones use the second one."""
    keys = tmp_path / "keys.json"
    settings = {**COMMON, "state_url": redis.url, "key_file": keys}
    first = await start_broker(**settings, instance="first")
    second = await start_broker(**settings, instance="second", public_url=first.url)
    async with Admin(first.admin) as admin:
        provider = Provider(first.url, second.url, admin, (first.url, second.url), keys)
        yield await add_site(provider, scopes=["openid", "profile", "offline_access"])


@pytest.fixture
async def browser(site: OIDCSite) -> AsyncIterator[ScanBrowser]:
    async with ScanBrowser(site.provider.issuer, phones=site.provider.phones) as browser:
        yield browser


def elsewhere(site: OIDCSite) -> OIDCSite:
    """Return the site as a client of another instance."""
    return site._replace(provider=site.provider._replace(issuer=site.provider.phones))


def alternating(site: OIDCSite, count: int) -> list[OIDCSite]:
    return [site, elsewhere(site)] * (count // 2)


async def test_raced_code_gives_tokens_at_most_once(site: OIDCSite, browser: ScanBrowser) -> None:
    location = await browser.redirect_after_sign_in(site.url(scope=OFFLINE), new_person())
    form = {
        "grant_type": "authorization_code",
        "code": answer_in(location)["code"],
        "redirect_uri": CALLBACK,
    }

    answers = await asyncio.gather(*(one.request_token(form) for one in alternating(site, 100)))

    successes = [body for status, body in answers if status == 200]
    assert len(successes) <= 1
    assert {body.get("error") for status, body in answers if status != 200} == {"invalid_grant"}
    for body in successes:
        assert await refreshes(site, body) == (400, "invalid_grant")


async def test_raced_refresh_gives_one_successor(site: OIDCSite, browser: ScanBrowser) -> None:
    tokens = await site.signed_in(browser, scope=OFFLINE)

    answers = await asyncio.gather(
        *(one.refresh(tokens["refresh_token"]) for one in alternating(site, 20))
    )

    assert {status for status, _ in answers} == {200}
    [successor] = {body["refresh_token"] for _, body in answers}
    assert await refreshes(elsewhere(site), {"refresh_token": successor}) == (200, None)


async def test_reused_refresh_token_ends_the_family_everywhere(
    site: OIDCSite, browser: ScanBrowser
) -> None:
    first = await site.signed_in(browser, scope=OFFLINE)
    _, second = await site.refresh(first["refresh_token"])
    _, third = await elsewhere(site).refresh(second["refresh_token"])

    assert await refreshes(site, first) == (400, "invalid_grant")

    for instance in (site, elsewhere(site)):
        assert await refreshes(instance, third) == (400, "invalid_grant")


async def test_login_completes_one_of_two_raced_requests(
    site: OIDCSite, browser: ScanBrowser
) -> None:
    pages = [await browser.open(site.url(state=state)) for state in ("one", "two")]
    requests = [parse(page.text).widget["request"] for page in pages]
    login = await confirmed_login(site, browser)
    urls = [URL(site.provider.issuer), URL(site.provider.phones)]

    answers = await asyncio.gather(
        *(
            browser.post(
                url.with_path(LOGIN),
                {"request": request, **login},
                follow=False,
                Origin=site.provider.issuer,
                **FORM_HEADERS,
            )
            for url, request in zip(urls, requests, strict=True)
        )
    )

    locations = [one.headers.get("Location", "") for one in answers]
    assert sum("code=" in location for location in locations) == 1


async def refreshes(site: OIDCSite, tokens: dict[str, Any]) -> tuple[int, str | None]:
    """Return the status and the error of a refresh."""
    status, body = await site.refresh(tokens["refresh_token"])
    return status, body.get("error")


async def confirmed_login(site: OIDCSite, browser: ScanBrowser) -> dict[str, str]:
    """Return a confirmed login of the site that was begun for no request."""
    url = f"{site.provider.issuer}/oauth/device_authorization"
    async with browser.http.post(url, data={"client_id": site.id}) as response:
        login = await response.json()
    login_id, _, secret = login["device_code"].partition(".")
    async with PhoneClient(site.provider.phones, new_person()) as phone:
        await phone.post("scan", {"scene": login["user_code"]})
        answer = await phone.post("confirm", {"login_id": login_id})
        assert answer.status == 200, answer.body
    return {"login_id": login_id, "secret": secret}
