"""RP-initiated logout."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.support.builders import StartBroker
from tests.support.oidc_browser import Page, ScanBrowser, parse
from tests.support.oidc_site import (
    AFTER_LOGOUT,
    HOME,
    OIDCSite,
    a_site,
    add_site,
    answer_in,
    location_of,
)


@pytest.fixture
async def visit(
    start_broker: StartBroker, tmp_path: Path
) -> AsyncIterator[tuple[OIDCSite, ScanBrowser]]:
    async with a_site(start_broker, tmp_path, sso=True) as visit:
        yield visit


def logout_url(site: OIDCSite, **fields: str) -> str:
    return f"{site.provider.issuer}/oauth/logout?{urlencode(fields)}"


async def is_signed_in(site: OIDCSite, browser: ScanBrowser) -> bool:
    return "code" in answer_in(await browser.redirect_of(site.url(prompt="none")))


async def confirm(browser: ScanBrowser, page: Page, **headers: str) -> Page:
    """Press the button of the page."""
    fields = parse(page.text).fields
    same_origin = {"Sec-Fetch-Site": "same-origin", "Origin": str(page.url.origin())}
    url = page.url.with_query(None)
    return await browser.post(url, fields, follow=False, **{**same_origin, **headers})


async def test_hint_ends_the_session_and_returns(visit: tuple[OIDCSite, ScanBrowser]) -> None:
    site, browser = visit
    hint = (await site.signed_in(browser))["id_token"]
    fields = {"post_logout_redirect_uri": AFTER_LOGOUT, "state": "a&b"}

    location = await location_of(browser, logout_url(site, id_token_hint=hint, **fields))

    assert location == f"{AFTER_LOGOUT}?state=a%26b"
    assert not await is_signed_in(site, browser)


async def test_logout_form_works_as_the_query(visit: tuple[OIDCSite, ScanBrowser]) -> None:
    site, browser = visit
    hint = (await site.signed_in(browser))["id_token"]
    form = {"id_token_hint": hint, "post_logout_redirect_uri": AFTER_LOGOUT}

    answer = await browser.post(
        f"{site.provider.issuer}/oauth/logout", form, follow=False, Origin="https://site.example"
    )

    assert answer.headers["Location"] == AFTER_LOGOUT
    assert not await is_signed_in(site, browser)


async def test_hint_of_an_ended_session_returns_too(visit: tuple[OIDCSite, ScanBrowser]) -> None:
    site, browser = visit
    hint = (await site.signed_in(browser))["id_token"]
    url = logout_url(site, id_token_hint=hint, post_logout_redirect_uri=AFTER_LOGOUT)

    locations = [await location_of(browser, url) for _ in range(2)]

    assert locations == [AFTER_LOGOUT, AFTER_LOGOUT]


async def test_hint_ends_a_session_without_cookie(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    async with a_site(start_broker, tmp_path, scopes=["openid", "profile"]) as (site, browser):
        tokens = await site.signed_in(browser)

        await browser.open(logout_url(site, id_token_hint=tokens["id_token"]))

        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        userinfo = await browser.open(f"{site.provider.issuer}/oauth/userinfo", **headers)
    assert userinfo.status == 401


@pytest.mark.parametrize("fields", [{}, {"id_token_hint": "forged"}, {"client_id": "site"}])
async def test_logout_without_hint_asks_first(
    visit: tuple[OIDCSite, ScanBrowser], fields: dict[str, str]
) -> None:
    site, browser = visit
    await site.signed_in(browser)

    page = await browser.open(logout_url(site, **fields))

    assert await is_signed_in(site, browser)
    assert (await confirm(browser, page)).status == 200
    assert not await is_signed_in(site, browser)


async def test_hint_of_another_session_asks_first(visit: tuple[OIDCSite, ScanBrowser]) -> None:
    site, browser = visit
    await site.signed_in(browser)
    async with ScanBrowser(site.provider.issuer) as other:
        hint = (await site.signed_in(other))["id_token"]

        page = await browser.open(logout_url(site, id_token_hint=hint))

        assert await is_signed_in(site, browser)
        assert await is_signed_in(site, other)
    assert parse(page.text).action


async def test_confirmed_logout_returns_to_the_app(visit: tuple[OIDCSite, ScanBrowser]) -> None:
    site, browser = visit
    await site.signed_in(browser)
    fields = {"client_id": "site", "post_logout_redirect_uri": AFTER_LOGOUT, "state": "s"}
    page = await browser.open(logout_url(site, **fields))

    answer = await confirm(browser, page)

    assert answer.headers["Location"] == f"{AFTER_LOGOUT}?state=s"


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
    ],
)
async def test_button_of_another_site_asks_again(
    visit: tuple[OIDCSite, ScanBrowser], headers: dict[str, str]
) -> None:
    site, browser = visit
    await site.signed_in(browser)
    page = await browser.open(logout_url(site))

    await confirm(browser, page, **headers)

    assert await is_signed_in(site, browser)


async def test_button_with_two_origins_asks_again(visit: tuple[OIDCSite, ScanBrowser]) -> None:
    site, browser = visit
    await site.signed_in(browser)
    page = await browser.open(logout_url(site))
    origins = [("Origin", str(page.url.origin())), ("Origin", "https://evil.example")]

    url, fields = page.url.with_query(None), parse(page.text).fields
    async with browser.http.post(url, data=fields, headers=origins) as answer:
        assert parse(await answer.text()).fields["confirm"]

    assert await is_signed_in(site, browser)


FOREIGN_URLS = [
    "https://evil.example/",
    f"{AFTER_LOGOUT}/",
    f"{AFTER_LOGOUT}?x=1",
    "//evil.example",
    f"{AFTER_LOGOUT}\r\nX: 1",
    HOME,
]


@pytest.mark.parametrize("url", FOREIGN_URLS)
async def test_unregistered_logout_url_is_a_page(
    visit: tuple[OIDCSite, ScanBrowser], url: str
) -> None:
    site, browser = visit
    hint = (await site.signed_in(browser))["id_token"]
    fields = {"id_token_hint": hint, "post_logout_redirect_uri": url}

    async with browser.http.get(logout_url(site, **fields), allow_redirects=False) as response:
        text = await response.text()

    assert response.status == 200
    assert f'href="{HOME}"' in text


async def test_logout_url_of_another_app_is_a_page(visit: tuple[OIDCSite, ScanBrowser]) -> None:
    site, browser = visit
    other_url = "https://other.example/signed-out"
    await add_site(site.provider, "other", post_logout_urls=[other_url])
    hint = (await site.signed_in(browser))["id_token"]
    fields = {"id_token_hint": hint, "post_logout_redirect_uri": other_url}

    assert await location_of(browser, logout_url(site, **fields)) is None


async def test_client_id_must_be_the_audience(visit: tuple[OIDCSite, ScanBrowser]) -> None:
    site, browser = visit
    await add_site(site.provider, "other")
    hint = (await site.signed_in(browser))["id_token"]

    page = await browser.open(logout_url(site, id_token_hint=hint, client_id="other"))

    assert page.status == 400
    assert await is_signed_in(site, browser)


@pytest.mark.parametrize("kind", ["access_token", "tampered"])
async def test_other_token_is_not_a_hint(visit: tuple[OIDCSite, ScanBrowser], kind: str) -> None:
    site, browser = visit
    tokens = await site.signed_in(browser)
    tokens["tampered"] = tokens["id_token"][:-8] + "AAAAAAAA"

    await browser.open(logout_url(site, id_token_hint=tokens[kind]))

    assert await is_signed_in(site, browser)


async def test_logout_page_without_session_says_signed_out(
    visit: tuple[OIDCSite, ScanBrowser],
) -> None:
    site, browser = visit

    page = await browser.open(logout_url(site, ui_locales="zh"))

    assert page.status == 200
    assert "已退出登录" in page.text


async def test_form_of_another_site_keeps_the_cookie(
    visit: tuple[OIDCSite, ScanBrowser],
) -> None:
    """The browser does not send the Lax cookie with it, but would obey its deletion."""
    site, _ = visit
    async with ScanBrowser(site.provider.issuer) as without_cookie:
        answer = await without_cookie.post(f"{site.provider.issuer}/oauth/logout", {})

    assert "Set-Cookie" not in answer.headers
