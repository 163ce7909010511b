"""Attacks on the browser's way through the provider (RFC 9700, RFC 9207)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import aiohttp
import pytest

from tests.support.builders import StartBroker
from tests.support.clients import PhoneClient
from tests.support.oidc_browser import AUTHORIZE, LOGIN, Page, ScanBrowser, new_person, parse
from tests.support.oidc_site import CALLBACK, OIDCSite, a_site, add_site, answer_in


class Visit(NamedTuple):
    """A user at the login page whose phone has confirmed.

    fields: of the form that the page submits next.
    """

    site: OIDCSite
    browser: ScanBrowser
    page: Page
    fields: dict[str, str]

    async def submit(self, browser: ScanBrowser | None = None, **headers: str) -> Page:
        """Submit the form of the page, by default in the browser of the user."""
        url = f"{self.site.provider.issuer}{LOGIN}"
        return await (browser or self.browser).post(url, self.fields, follow=False, **headers)


@pytest.fixture
async def visit(start_broker: StartBroker, tmp_path: Path) -> AsyncIterator[Visit]:
    async with a_site(start_broker, tmp_path, sso=True) as (site, browser):
        page = await browser.open(site.url())
        yield Visit(site, browser, page, await browser.confirmed(page, new_person()))


def own_origin(visit: Visit) -> str:
    return visit.site.provider.issuer


def foreign_origin(visit: Visit) -> str:
    return "https://evil.example"


def null_origin(visit: Visit) -> str:
    return "null"


SENDERS = [
    (own_origin, "same-origin", 303),
    (own_origin, None, 303),
    (null_origin, "same-origin", 303),
    (null_origin, None, 403),
    (null_origin, "cross-site", 403),
    (foreign_origin, None, 403),
    (foreign_origin, "cross-site", 403),
    (foreign_origin, "same-origin", 403),
    (own_origin, "same-site", 403),
    (own_origin, "cross-site", 403),
    (own_origin, "none", 403),
    (own_origin, "x", 403),
]


@pytest.mark.parametrize(("origin", "fetch_site", "status"), SENDERS)
async def test_login_form_is_accepted_from_own_page_only(
    visit: Visit, origin: Callable[[Visit], str], fetch_site: str | None, status: int
) -> None:
    headers = {} if fetch_site is None else {"Sec-Fetch-Site": fetch_site}

    answer = await visit.submit(None, Origin=origin(visit), **headers)

    assert answer.status == status
    assert ("Location" in answer.headers) == (status == 303)
    assert ("Set-Cookie" in answer.headers) == (status == 303)


async def test_login_form_needs_the_cookie_of_its_request(visit: Visit) -> None:
    """An attacker cannot sign a victim in as the attacker (login CSRF)."""
    async with ScanBrowser(visit.site.provider.issuer) as victim:
        without_cookie = await visit.submit(victim)
        await victim.open(visit.site.url())
        with_another_cookie = await visit.submit(victim)

    for answer in (without_cookie, with_another_cookie):
        assert answer.status == 403
        assert "Location" not in answer.headers
        assert "Set-Cookie" not in answer.headers


async def test_tossed_cookie_of_another_request_is_refused(visit: Visit) -> None:
    """Another host of the domain can set cookies over http, but does not know the value."""
    other = await visit.browser.open(visit.site.url())
    values = {one.key: one.value for one in visit.browser.http.cookie_jar}
    own, foreign = [
        f"scan-login-r-{parse(page.text).widget['request'][:8]}" for page in (visit.page, other)
    ]
    tossed = f"{own}={values[foreign]}"

    async with ScanBrowser(visit.site.provider.issuer) as victim:
        answer = await visit.submit(victim, Cookie=tossed)

    assert answer.status == 403


async def test_planted_sign_in_cookie_is_replaced(visit: Visit) -> None:
    """The sign-in cookie is new after each scan (session fixation)."""
    planted = "A" * 43
    visit.browser.http.cookie_jar.update_cookies({"scan-login": planted}, visit.page.url)

    answer = await visit.submit()

    cookies = SimpleCookie(answer.headers["Set-Cookie"])
    assert cookies["scan-login"].value != planted
    async with ScanBrowser(visit.site.provider.issuer) as attacker:
        location = await silent_answer(attacker, visit.site, planted)
    assert location["error"] == "login_required"


async def test_session_of_attacker_is_not_continued_by_victim(visit: Visit) -> None:
    """An attacker plants its own sign-in cookie in the browser of a victim."""
    async with ScanBrowser(visit.site.provider.issuer) as attacker:
        await visit.site.signed_in(attacker)
        [own] = [one.value for one in attacker.http.cookie_jar if one.key == "scan-login"]
        visit.browser.http.cookie_jar.update_cookies({"scan-login": own}, visit.page.url)

        await visit.submit()

        answer = await silent_answer(attacker, visit.site, own)
    assert answer["error"] == "login_required"


async def silent_answer(browser: ScanBrowser, site: OIDCSite, cookie: str) -> dict[str, str]:
    """Return the answer to `prompt=none` with this sign-in cookie."""
    browser.http.cookie_jar.clear()
    headers = {"Cookie": f"scan-login={cookie}"}
    url = site.url(prompt="none")
    async with browser.http.get(url, allow_redirects=False, headers=headers) as response:
        return answer_in(response.headers["Location"])


ODD_COOKIES = [
    "",
    "A",
    "A" * 43,
    "A" * 5_000,
    "%00",
    "ä" * 43,
    "A" * 42 + ";",
    '"' + "A" * 41 + '"',
]


@pytest.mark.parametrize("cookie", ODD_COOKIES)
async def test_malformed_sign_in_cookie_counts_as_none(visit: Visit, cookie: str) -> None:
    async with ScanBrowser(visit.site.provider.issuer) as browser:
        answer = await silent_answer(browser, visit.site, quote(cookie, safe='%;"'))

    assert answer["error"] == "login_required"


async def test_login_of_another_request_is_refused(visit: Visit) -> None:
    other = await visit.browser.open(visit.site.url())
    request = parse(other.text).widget["request"]

    answer = await visit.browser.submit_login(
        other, {**visit.fields, "request": request}, follow=False
    )

    assert answer.status == 400
    assert "Location" not in answer.headers


async def test_login_of_another_app_is_refused(visit: Visit) -> None:
    other = await add_site(visit.site.provider, "other", sso=True)
    page = await visit.browser.open(other.url())
    fields = {**visit.fields, "request": parse(page.text).widget["request"]}

    answer = await visit.browser.submit_login(page, fields, follow=False)

    assert answer.status == 400
    assert "Location" not in answer.headers


async def test_login_older_than_the_request_is_refused(visit: Visit) -> None:
    """A login that an attacker's page began, and that the user has confirmed there."""
    issuer = visit.site.provider.issuer
    begin = {"client_id": visit.site.id}
    async with visit.browser.http.post(
        f"{issuer}/oauth/device_authorization", data=begin
    ) as response:
        login = await response.json()
    login_id, _, secret = login["device_code"].partition(".")
    async with PhoneClient(issuer, new_person()) as phone:
        await phone.post("scan", {"scene": login["user_code"]})
        await phone.post("confirm", {"login_id": login_id})
    page = await visit.browser.open(visit.site.url())
    fields = {"login_id": login_id, "secret": secret}
    fields["request"] = parse(page.text).widget["request"]

    answer = await visit.browser.submit_login(page, fields, follow=False)

    assert answer.status == 400
    assert "Location" not in answer.headers


async def test_login_completes_one_request(visit: Visit) -> None:
    first = await visit.submit()
    other = await visit.browser.open(visit.site.url(prompt="login"))
    fields = {**visit.fields, "request": parse(other.text).widget["request"]}

    second = await visit.browser.submit_login(other, fields, follow=False)

    assert first.status == 303
    assert second.status == 400


async def test_login_of_request_yields_no_token_to_page(visit: Visit) -> None:
    """A script on the page, or a stolen secret, gets a code for the app only."""
    device_code = f"{visit.fields['login_id']}.{visit.fields['secret']}"
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
        "client_id": visit.site.id,
        "device_code": device_code,
    }

    answer = await visit.browser.post(f"{visit.site.provider.issuer}/oauth/token", form)

    assert answer.status == 400
    assert "access_token" not in answer.text


async def test_every_answer_names_the_issuer(visit: Visit) -> None:
    """An app with several providers knows which one answers (mix-up attack)."""
    answers = [
        answer_in((await visit.submit()).headers["Location"]),
        answer_in(await visit.browser.redirect_of(visit.site.url(prompt="none"))),
        answer_in(await visit.browser.redirect_of(visit.site.url(response_type="token"))),
    ]

    assert {answer["iss"] for answer in answers} == {visit.site.provider.issuer}


FOREIGN_URLS = [
    "//evil.example",
    "https://evil.example",
    "https:\\\\evil.example",
    "/\\evil.example",
    f"{CALLBACK}@evil.example",
    "https://site.example@evil.example/cb",
    "https://site.example\\@evil.example/cb",
    "https://site.example:443/cb",
    "https://site.example./cb",
    "https://ѕite.example/cb",
    "https://site.example/cb\r\nLocation: https://evil.example",
    "https://site.example/cb%0d%0aLocation:%20https://evil.example",
    "https://site.example/cb\t",
    "https://site.example/cb?next=//evil.example",
    "https://site.example/cb#code",
    "https://site.example/cb/..",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("url", FOREIGN_URLS)
async def test_foreign_redirect_uri_is_a_page(visit: Visit, url: str, method: str) -> None:
    fields = visit.site.fields(redirect_uri=url)
    endpoint = f"{visit.site.provider.issuer}{AUTHORIZE}"
    content: dict[str, Any] = {"params": fields} if method == "GET" else {"data": fields}

    async with visit.browser.http.request(
        method, endpoint, allow_redirects=False, **content
    ) as response:
        text = await response.text()

    assert response.status == 400
    assert "Location" not in response.headers
    assert "evil.example" not in text


async def test_state_cannot_add_fields_or_headers(visit: Visit) -> None:
    state = "x&code=stolen#f\r\nSet-Cookie: a=b"

    location = await visit.browser.redirect_of(visit.site.url(state=state, prompt="none"))

    assert answer_in(location)["state"] == state
    assert "code" not in answer_in(location)
    assert not set("\r\n#") & set(location)


async def test_form_post_fields_are_escaped(visit: Visit) -> None:
    state = '"><script>alert(1)</script>'
    url = visit.site.url(state=state, prompt="none", response_mode="form_post")

    page = await visit.browser.open(url)

    assert parse(page.text).fields["state"] == state
    assert "<script>alert" not in page.text


@pytest.mark.parametrize("name", ["request", "request_uri"])
async def test_request_object_does_not_replace_fields(visit: Visit, name: str) -> None:
    """Its content is neither read nor fetched."""
    value = {"request": "eyJhbGciOiJub25lIn0.e30.", "request_uri": "http://127.0.0.1:1/"}[name]

    location = await visit.browser.redirect_of(visit.site.url(**{name: value}))

    assert answer_in(location)["error"] == f"{name}_not_supported"


async def test_fields_cannot_change_a_pushed_request(visit: Visit) -> None:
    url = f"{visit.site.provider.issuer}{AUTHORIZE}"
    pushed = await visit.browser.post(url, visit.site.fields(prompt="none"), follow=False)
    changes = "&redirect_uri=https://evil.example&state=evil&prompt=login&response_mode=form_post"

    async with visit.browser.http.get(
        pushed.headers["Location"] + changes, allow_redirects=False
    ) as response:
        answer = answer_in(response.headers["Location"])

    assert (answer["error"], answer["state"]) == ("login_required", "s&=1")


@pytest.mark.parametrize("path", [AUTHORIZE, LOGIN, "/oauth/logout"])
async def test_page_cannot_be_framed(visit: Visit, path: str) -> None:
    method = "POST" if path == LOGIN else "GET"
    url = f"{visit.site.provider.issuer}{path}"

    async with visit.browser.http.request(method, url) as response:
        policy = response.headers["Content-Security-Policy"]

    assert "frame-ancestors 'none'" in policy
    assert "base-uri 'none'" in policy
    assert "unsafe" not in policy


async def test_cross_origin_pages_read_no_answer(visit: Visit) -> None:
    headers = {"Origin": "https://evil.example"}
    for method, path in (("GET", AUTHORIZE), ("POST", LOGIN), ("GET", "/oauth/logout")):
        url = f"{visit.site.provider.issuer}{path}"
        async with visit.browser.http.request(method, url, headers=headers) as response:
            assert "Access-Control-Allow-Origin" not in response.headers


async def test_wrong_login_secrets_are_limited(start_broker: StartBroker, tmp_path: Path) -> None:
    settings = {"misses_per_minute": 2}
    async with a_site(start_broker, tmp_path, settings=settings) as (site, browser):
        page = await browser.open(site.url())
        fields = await browser.confirmed(page, new_person())
        guesses = [
            await browser.submit_login(page, {**fields, "secret": "s" * 43}, follow=False)
            for _ in range(4)
        ]
        right = await browser.submit_login(page, fields, follow=False)

    assert guesses[-1].status == 429
    assert right.status == 303


async def test_head_and_other_methods_change_nothing(visit: Visit) -> None:
    url = f"{visit.site.provider.issuer}{LOGIN}"
    async with aiohttp.ClientSession() as http:
        for method in ("GET", "HEAD", "PUT", "DELETE"):
            async with http.request(method, url, params=visit.fields) as response:
                assert response.status == 405
