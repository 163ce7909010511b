"""The authorization endpoint, and the return to the app."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.support.builders import StartBroker
from tests.support.clients import PhoneClient
from tests.support.oidc_browser import AUTHORIZE, Page, ScanBrowser, new_person, parse
from tests.support.oidc_provider import one_instance
from tests.support.oidc_site import (
    CALLBACK,
    HOME,
    OIDCSite,
    a_site,
    add_site,
    answer_in,
    location_of,
)


@pytest.fixture
async def site(start_broker: StartBroker, tmp_path: Path) -> AsyncIterator[OIDCSite]:
    async with one_instance(start_broker, tmp_path) as provider:
        yield await add_site(provider, sso=True)


@pytest.fixture
async def browser(site: OIDCSite) -> AsyncIterator[ScanBrowser]:
    async with ScanBrowser(site.provider.issuer) as browser:
        yield browser


async def test_scan_returns_code_state_and_issuer(site: OIDCSite, browser: ScanBrowser) -> None:
    location = await browser.redirect_after_sign_in(site.url(nonce="n"), new_person())

    answer = answer_in(location)
    assert (answer["state"], answer["iss"]) == ("s&=1", site.provider.issuer)
    assert len(answer["code"]) == 43
    assert (await site.exchange(answer["code"]))["claims"]["nonce"] == "n"


async def test_form_post_page_contains_the_same_fields(
    site: OIDCSite, browser: ScanBrowser
) -> None:
    page = await browser.open(site.url(response_mode="form_post"))

    answer = await browser.submit_login(page, await browser.confirmed(page, new_person()))

    form = parse(answer.text)
    assert form.action == CALLBACK
    assert set(form.fields) == {"code", "state", "iss"}
    assert form.fields["state"] == "s&=1"
    assert "form-action" not in answer.headers["Content-Security-Policy"]


async def test_error_of_form_post_is_a_form(site: OIDCSite, browser: ScanBrowser) -> None:
    page = await browser.open(site.url(response_mode="form_post", prompt="none"))

    assert parse(page.text).fields["error"] == "login_required"


ERRORS = [
    ({"response_type": "token"}, "unsupported_response_type"),
    ({"request": "x"}, "request_not_supported"),
    ({"request_uri": "https://site.example/r"}, "request_uri_not_supported"),
    ({"prompt": "none"}, "login_required"),
    ({"id_token_hint": "x"}, "invalid_request"),
    ({"nonce": "n" * 3_000}, "invalid_request"),
]


@pytest.mark.parametrize(("fields", "word"), ERRORS)
async def test_error_returns_to_the_app(
    site: OIDCSite, browser: ScanBrowser, fields: dict[str, str], word: str
) -> None:
    answer = answer_in(await browser.redirect_of(site.url(**fields)))

    assert set(answer) == {"error", "error_description", "state", "iss"}
    assert answer["error"] == word


@pytest.mark.parametrize(
    "fields", [{"client_id": "unknown"}, {"client_id": ""}, {"redirect_uri": ""}]
)
async def test_unknown_destination_is_a_page(
    site: OIDCSite, browser: ScanBrowser, fields: dict[str, str]
) -> None:
    page = await browser.open(site.url(**fields))

    assert page.status == 400
    assert len(page.trail) == 1
    assert "WWW-Authenticate" not in page.headers


async def test_login_page_headers(site: OIDCSite, browser: ScanBrowser) -> None:
    page = await browser.open(site.url())

    policy = page.headers["Content-Security-Policy"]
    assert "form-action" not in policy
    assert "frame-ancestors 'none'" in policy
    assert f"ws://{urlsplit(site.provider.issuer).netloc}" in policy
    assert page.headers["Referrer-Policy"] == "same-origin"
    assert page.headers["Cache-Control"] == "no-store"
    assert "Cross-Origin-Opener-Policy" not in page.headers


async def test_request_cookie_over_http(site: OIDCSite, browser: ScanBrowser) -> None:
    async with browser.http.get(site.url()) as response:
        [cookie] = response.headers.getall("Set-Cookie")

    assert cookie.startswith("scan-login-r-")
    assert {part.strip() for part in cookie.split(";")} >= {
        "HttpOnly",
        "Path=/",
        "SameSite=Lax",
        "Max-Age=600",
    }
    assert "Domain" not in cookie


async def test_cookies_over_https_have_the_host_prefix(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    settings = {"public_url": "https://login.example", "allow_pretend": True}
    async with a_site(start_broker, tmp_path, settings=settings) as (site, browser):
        page = await browser.open(site.url())

    cookie, policy = page.headers["Set-Cookie"], page.headers["Content-Security-Policy"]
    assert cookie.startswith("__Host-scan-login-r-")
    assert "Secure" in cookie
    assert "wss://login.example" in policy


async def test_browser_keeps_eight_request_cookies(site: OIDCSite, browser: ScanBrowser) -> None:
    for _ in range(10):
        await browser.open(site.url())

    assert len([one for one in browser.http.cookie_jar if "-r-" in one.key]) == 8


async def test_post_is_redirected_to_a_stored_request(site: OIDCSite, browser: ScanBrowser) -> None:
    url = f"{site.provider.issuer}{AUTHORIZE}"
    page = await browser.post(url, site.fields(), Origin="null")

    assert [one.path for one in page.trail] == [AUTHORIZE, AUTHORIZE]
    assert set(page.url.query) == {"client_id", "request_uri"}
    answer = await browser.submit_login(
        page, await browser.confirmed(page, new_person()), follow=False
    )
    assert answer_in(answer.headers["Location"])["state"] == "s&=1"


async def test_stored_request_opens_in_one_browser(site: OIDCSite, browser: ScanBrowser) -> None:
    page = await browser.post(f"{site.provider.issuer}{AUTHORIZE}", site.fields())

    reloaded = await browser.open(page.url)
    async with ScanBrowser(site.provider.issuer) as other:
        refused = await other.open(page.url)

    assert parse(reloaded.text).widget["request"] == parse(page.text).widget["request"]
    assert refused.status == 400
    assert "invalid_request_uri" in refused.text


async def test_stored_request_of_another_app_is_a_page(
    site: OIDCSite, browser: ScanBrowser
) -> None:
    other = await add_site(site.provider, "other")
    location = await location_after_post(browser, site)

    page = await browser.open(other.url(request_uri=dict(parse_qsl(location))["request_uri"]))

    assert page.status == 400


async def location_after_post(browser: ScanBrowser, site: OIDCSite) -> str:
    url = f"{site.provider.issuer}{AUTHORIZE}"
    page = await browser.post(url, site.fields(), follow=False)
    return urlsplit(page.headers["Location"]).query


async def test_page_language_follows_locales_then_browser(
    site: OIDCSite, browser: ScanBrowser
) -> None:
    chinese = {"Accept-Language": "zh-CN,zh;q=0.9"}
    pages = [
        await browser.open(site.url()),
        await browser.open(site.url(), **chinese),
        await browser.open(site.url(ui_locales="en"), **chinese),
        await browser.open(site.url(ui_locales="fr zh")),
    ]

    assert [parse(page.text).widget["lang"] for page in pages] == ["en", "zh-CN", "en", "zh-CN"]


async def test_login_hint_is_shown_as_text(site: OIDCSite, browser: ScanBrowser) -> None:
    page = await browser.open(site.url(login_hint="<b>alice</b>{app}$app"))

    assert "&lt;b&gt;alice&lt;/b&gt;{app}$app" in page.text


@pytest.mark.parametrize("text", ["call +1-555-0100 now", "a" * 101, "a\u202ecba", "你\u3000好"])
async def test_login_hint_that_may_be_a_message_is_hidden(
    site: OIDCSite, browser: ScanBrowser, text: str
) -> None:
    """Anyone can send a link with a hint: the page must not show an attacker's instructions."""
    page = await browser.open(site.url(login_hint=text))

    assert page.status == 200
    assert text not in page.text


LOGOS = [
    ("https://CDN.example:443/logo.png?v=2", " https://cdn.example;"),
    ("https://user:password@cdn.example/logo.png", ""),
    ("https://cdn.example;script-src%20*/logo.png", ""),
]


@pytest.mark.parametrize(("logo", "source"), LOGOS)
async def test_policy_allows_only_the_origin_of_the_logo(
    site: OIDCSite, browser: ScanBrowser, logo: str, source: str
) -> None:
    """A logo whose Origin cannot be in a policy is not shown."""
    usual = (await browser.open(site.url())).headers["Content-Security-Policy"]
    await site.provider.update_app(site.id, logo_url=logo)

    page = await browser.open(site.url())

    expected = re.sub(r"(img-src [^;]+);", rf"\1{source}", usual) if source else usual
    assert page.headers["Content-Security-Policy"] == expected
    assert ('class="logo"' in page.text, 'class="monogram"' in page.text) == (
        bool(source),
        not source,
    )


async def test_page_of_pretend_app_links_to_phone_page(
    site: OIDCSite, browser: ScanBrowser
) -> None:
    page = await browser.open(site.url())

    assert 'data-url="http://127.0.0.1:8090/"' in page.text


async def test_page_of_wechat_app_has_no_phone_page(site: OIDCSite, browser: ScanBrowser) -> None:
    await site.provider.update_app("site", provider="wechat")

    page = await browser.open(site.url())

    assert page.status == 200
    assert "data-url" not in page.text


async def test_page_lists_scopes_and_requested_claims(site: OIDCSite, browser: ScanBrowser) -> None:
    await site.provider.update_app("site", scopes=["openid", "email", "groups"])
    claims = '{"id_token": {"email": null}}'

    page = await browser.open(site.url(scope="openid groups profile", claims=claims))

    assert "<li>your e-mail address</li><li>the groups you belong to</li>" in page.text
    assert "your name" not in page.text


async def test_flood_of_requests_is_limited(start_broker: StartBroker, tmp_path: Path) -> None:
    settings = {"begins_per_minute": 1}
    async with a_site(start_broker, tmp_path, settings=settings) as (site, browser):
        first, second = [await browser.open(site.url()) for _ in range(2)]

    assert (first.status, second.status) == (200, 429)
    assert "Retry-After" in second.headers


# ---- sign-in sessions ----


async def test_second_app_needs_no_scan(site: OIDCSite, browser: ScanBrowser) -> None:
    other = await add_site(site.provider, "other", sso=True)
    first = await site.signed_in(browser)

    location = await browser.redirect_of(other.url(prompt="none"))

    second = await other.exchange(answer_in(location)["code"])
    for claim in ("sub", "sid", "auth_time"):
        assert first["claims"][claim] == second["claims"][claim]


@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True), (False, False)])
async def test_app_without_sso_always_needs_a_scan(
    start_broker: StartBroker, tmp_path: Path, first: bool, second: bool
) -> None:
    async with a_site(start_broker, tmp_path, sso=first) as (site, browser):
        other = await add_site(site.provider, "other", sso=second)
        await site.signed_in(browser)

        answer = answer_in(await browser.redirect_of(other.url(prompt="none")))
        page = await browser.open(other.url())

    assert answer["error"] == "login_required"
    assert parse(page.text).widget


async def test_same_app_without_sso_needs_a_scan(start_broker: StartBroker, tmp_path: Path) -> None:
    async with a_site(start_broker, tmp_path) as (site, browser):
        await site.signed_in(browser)

        answer = answer_in(await browser.redirect_of(site.url(prompt="none")))

    assert answer["error"] == "login_required"


async def test_open_directory_separates_provider_accounts(
    site: OIDCSite, browser: ScanBrowser
) -> None:
    """The subject of a person differs between the provider accounts of apps."""
    account = {"provider": "pretend", "provider_app_id": "another", "phone_app": ""}
    other = await add_site(site.provider, "other", sso=True, **account)
    await site.signed_in(browser)

    answer = answer_in(await browser.redirect_of(other.url(prompt="none")))

    assert answer["error"] == "login_required"


@pytest.mark.parametrize("prompt", ["login", "select_account"])
async def test_prompt_requires_a_scan(site: OIDCSite, browser: ScanBrowser, prompt: str) -> None:
    await site.signed_in(browser)

    page = await browser.open(site.url(prompt=prompt))

    assert parse(page.text).widget


async def test_old_sign_in_requires_a_scan(site: OIDCSite, browser: ScanBrowser) -> None:
    await site.signed_in(browser)

    page = await browser.open(site.url(max_age="0"))
    location = await browser.redirect_of(site.url(max_age="10000"))

    assert parse(page.text).widget
    assert "code" in answer_in(location)


async def test_hint_of_the_same_user_needs_no_scan(site: OIDCSite, browser: ScanBrowser) -> None:
    hint = (await site.signed_in(browser))["id_token"]

    location = await browser.redirect_of(site.url(id_token_hint=hint, prompt="none"))

    assert "code" in answer_in(location)


async def test_hint_of_another_user_requires_a_scan(site: OIDCSite, browser: ScanBrowser) -> None:
    hint = (await site.signed_in(browser))["id_token"]
    async with ScanBrowser(site.provider.issuer) as other:
        await site.signed_in(other)

        silent = answer_in(await other.redirect_of(site.url(id_token_hint=hint, prompt="none")))
        page = await other.open(site.url(id_token_hint=hint))

    assert silent["error"] == "login_required"
    assert parse(page.text).widget


async def test_scan_of_another_user_than_hinted_fails(site: OIDCSite, browser: ScanBrowser) -> None:
    hint = (await site.signed_in(browser))["id_token"]

    async with ScanBrowser(site.provider.issuer) as other:
        location = await other.redirect_after_sign_in(site.url(id_token_hint=hint), new_person())
        after = answer_in(await other.redirect_of(site.url(prompt="none")))

    assert answer_in(location)["error"] == "login_required"
    assert after["error"] == "login_required"


async def test_second_scan_of_the_same_person_keeps_the_session(
    site: OIDCSite, browser: ScanBrowser
) -> None:
    person = new_person()
    first = await site.signed_in(browser, person)
    cookie = sign_in_cookie(browser)

    second = await site.signed_in(browser, person, prompt="login")

    assert first["claims"]["sid"] == second["claims"]["sid"]
    assert sign_in_cookie(browser) != cookie


async def test_scan_by_another_person_ends_the_session(
    site: OIDCSite, browser: ScanBrowser
) -> None:
    first = await site.signed_in(browser)
    old = sign_in_cookie(browser)

    second = await site.signed_in(browser, prompt="login")

    async with ScanBrowser(site.provider.issuer) as thief:
        answer = await location_of(thief, site.url(prompt="none"), Cookie=f"scan-login={old}")
    assert answer is not None
    assert answer_in(answer)["error"] == "login_required"
    assert first["claims"]["sid"] != second["claims"]["sid"]
    headers = {"Authorization": f"Bearer {first['access_token']}"}
    userinfo = await browser.open(f"{site.provider.issuer}/oauth/userinfo", **headers)
    assert userinfo.status == 401


async def test_sign_in_is_unusable_after_sso_ends(site: OIDCSite, browser: ScanBrowser) -> None:
    other = await add_site(site.provider, "other", sso=True)
    await site.signed_in(browser)

    await site.provider.update_app("site", sso=False)

    answer = answer_in(await browser.redirect_of(other.url(prompt="none")))
    assert answer["error"] == "login_required"


def sign_in_cookie(browser: ScanBrowser) -> str:
    [value] = [one.value for one in browser.http.cookie_jar if one.key == "scan-login"]
    return value


async def test_removed_app_has_no_requests_left(site: OIDCSite, browser: ScanBrowser) -> None:
    query = await location_after_post(browser, site)
    await site.provider.admin.ask("DELETE", "/apps/site")
    await add_site(site.provider, home_url=HOME)

    page = await browser.open(f"{site.provider.issuer}{AUTHORIZE}?{query}")

    assert page.status == 400


# ---- match ----

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"

WITH_MATCH = {"acr_values": "urn:scan-login:match"}


async def login_fields(browser: ScanBrowser, page: Page, request: str) -> dict[str, str]:
    """Confirm a login that needs a match, and return the fields that its page submits."""
    app, origin = parse(page.text).widget["app"], page.url.origin()
    begin = {"client_id": app, **({"request": request} if request else {})}
    async with browser.http.post(f"{origin}/oauth/device_authorization", data=begin) as response:
        login = await response.json()
    login_id, _, secret = login["device_code"].partition(".")
    poll = {"grant_type": DEVICE_GRANT, "client_id": app, "device_code": login["device_code"]}
    async with PhoneClient(str(origin), new_person()) as phone:
        await phone.post("scan", {"scene": login["user_code"], "can": ["match"]})
        async with browser.http.post(f"{origin}/oauth/token", data=poll) as response:
            shown = await response.json()
        number = {"match": shown["match"]} if "match" in shown else {}
        confirmed = await phone.post("confirm", {"login_id": login_id, **number})
        assert confirmed.status == 200, confirmed.body
    fields = {"login_id": login_id, "secret": secret}
    return {**fields, "request": parse(page.text).widget["request"]}


async def test_requested_match_is_in_the_id_token(site: OIDCSite, browser: ScanBrowser) -> None:
    page = await browser.open(site.url(**WITH_MATCH))

    fields = await login_fields(browser, page, parse(page.text).widget["request"])
    answer = await browser.submit_login(page, fields, follow=False)

    claims = (await site.exchange(answer_in(answer.headers["Location"])["code"]))["claims"]
    assert claims["amr"] == ["scan", "match"]
    assert claims["acr"] == "urn:scan-login:match"


async def test_login_without_the_requested_match_is_refused(
    site: OIDCSite, browser: ScanBrowser
) -> None:
    """An attacker's page may begin the login without the request."""
    page = await browser.open(site.url(**WITH_MATCH))

    fields = await login_fields(browser, page, "")
    answer = await browser.submit_login(page, fields, follow=False)

    assert answer.status == 400


async def test_sign_in_without_match_does_not_replace_one(
    site: OIDCSite, browser: ScanBrowser
) -> None:
    strict = await add_site(site.provider, "strict", sso=True, match="number")
    await site.signed_in(browser)

    requested = await browser.redirect_of(site.url(prompt="none", **WITH_MATCH))
    required = await browser.redirect_of(strict.url(prompt="none"))

    assert answer_in(requested)["error"] == "login_required"
    assert answer_in(required)["error"] == "login_required"
