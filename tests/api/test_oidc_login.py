"""The form of the login page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.builders import StartBroker
from tests.support.oidc_browser import LOGIN, Page, ScanBrowser, new_person, parse
from tests.support.oidc_site import HOME, OIDCSite, a_site, answer_in
from tests.support.servers.redis import Engines


@pytest.fixture(params=["memory", "valkey"])
async def visit(
    request: pytest.FixtureRequest,
    start_broker: StartBroker,
    tmp_path: Path,
) -> AsyncIterator[tuple[OIDCSite, ScanBrowser]]:
    """An app and a browser, with each kind of state."""
    settings = {}
    if request.param != "memory":
        engines: Engines = request.getfixturevalue("engines")
        settings = {"state_url": engines.url(request.param)}
    async with a_site(start_broker, tmp_path, settings=settings, sso=True) as visit:
        yield visit


async def test_repeated_form_gets_the_same_answer(visit: tuple[OIDCSite, ScanBrowser]) -> None:
    """The answer to the first one may have been lost."""
    site, browser = visit
    page = await browser.open(site.url())
    fields = await browser.confirmed(page, new_person())

    answers = [await browser.submit_login(page, fields, follow=False) for _ in range(2)]

    assert [answer.status for answer in answers] == [303, 303]
    assert answers[0].headers["Location"] == answers[1].headers["Location"]
    assert "id_token" in await site.exchange(answer_in(answers[0].headers["Location"])["code"])


async def test_two_tabs_finish_their_own_requests(visit: tuple[OIDCSite, ScanBrowser]) -> None:
    site, browser = visit
    pages = [await browser.open(site.url(state=state)) for state in ("first", "second")]

    for page, state in zip(pages, ("first", "second"), strict=True):
        fields = await browser.confirmed(page, new_person())
        answer = await browser.submit_login(page, fields, follow=False)

        assert answer_in(answer.headers["Location"])["state"] == state


async def test_cancel_returns_to_the_app(visit: tuple[OIDCSite, ScanBrowser]) -> None:
    site, browser = visit
    page = await browser.open(site.url())

    answer = await cancel(browser, page)

    fields = answer_in(answer.headers["Location"])
    assert (fields["error"], fields["state"]) == ("access_denied", "s&=1")


async def test_used_login_page_links_to_the_app(visit: tuple[OIDCSite, ScanBrowser]) -> None:
    site, browser = visit
    page = await browser.open(site.url())
    fields = await browser.confirmed(page, new_person())
    cookies = {one.key: one.value for one in browser.http.cookie_jar}
    await cancel(browser, page)
    browser.http.cookie_jar.update_cookies(cookies, page.url)

    answer = await browser.submit_login(page, fields, follow=False)

    assert answer.status == 400
    assert f'href="{HOME}"' in answer.text


async def test_form_of_an_unknown_request_is_a_page(visit: tuple[OIDCSite, ScanBrowser]) -> None:
    site, browser = visit
    page = await browser.open(site.url())
    fields = await browser.confirmed(page, new_person())

    answer = await browser.submit_login(page, {**fields, "request": "r" * 43}, follow=False)

    assert answer.status == 400
    assert "Location" not in answer.headers
    assert "start again" in answer.text.lower()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"login_id": "x"},
        {"secret": "x" * 10_000},
        {"login_id": "../..", "secret": "\0"},
        {"request": ""},
        {"request": "x" * 5_000},
    ],
)
async def test_malformed_form_is_a_page(
    visit: tuple[OIDCSite, ScanBrowser], fields: dict[str, str]
) -> None:
    site, browser = visit
    page = await browser.open(site.url())
    request = parse(page.text).widget["request"]

    answer = await browser.submit_login(page, {"request": request, **fields}, follow=False)

    assert answer.status == 400
    assert answer.headers["Content-Type"].startswith("text/html")


async def test_unconfirmed_login_is_refused(visit: tuple[OIDCSite, ScanBrowser]) -> None:
    site, browser = visit
    page = await browser.open(site.url())
    widget = parse(page.text).widget
    begin = {"client_id": site.id, "request": widget["request"]}
    url = f"{site.provider.issuer}/oauth/device_authorization"
    async with browser.http.post(url, data=begin) as response:
        login_id, _, secret = (await response.json())["device_code"].partition(".")
    fields = {"request": widget["request"], "login_id": login_id, "secret": secret}

    answer = await browser.submit_login(page, fields, follow=False)

    assert answer.status == 400
    assert "Location" not in answer.headers


async def test_refused_login_leaves_the_request_open(
    visit: tuple[OIDCSite, ScanBrowser],
) -> None:
    site, browser = visit
    page = await browser.open(site.url())
    _, unconfirmed = await browser.begin(page)
    fields = await browser.confirmed(page, new_person())

    for refused in (unconfirmed, {**unconfirmed, "secret": fields["secret"]}):
        assert (await browser.submit_login(page, refused, follow=False)).status == 400
    answer = await browser.submit_login(page, fields, follow=False)

    assert answer.status == 303


async def cancel(browser: ScanBrowser, page: Page) -> Page:
    form = {"request": parse(page.text).widget["request"], "cancel": "1"}
    url = page.url.origin().joinpath(LOGIN.strip("/"))
    return await browser.post(url, form, follow=False, **{"Sec-Fetch-Site": "same-origin"})


@pytest.mark.parametrize(("remember", "max_age"), [(False, ""), (True, "2592000")])
async def test_sign_in_cookie_outlives_the_browser_if_remembered(
    start_broker: StartBroker, tmp_path: Path, remember: bool, max_age: str
) -> None:
    settings = {"signin_remember": remember, "signin_lifetime": 2_592_000}
    async with a_site(start_broker, tmp_path, settings=settings, sso=True) as (site, browser):
        await browser.redirect_after_sign_in(site.url(), new_person())

        [cookie] = [one for one in browser.http.cookie_jar if one.key == "scan-login"]

    assert cookie["max-age"] == max_age
