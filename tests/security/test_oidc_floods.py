"""Clients that exhaust what the provider stores, or the limits of others."""

from __future__ import annotations

from pathlib import Path

from tests.support.builders import StartBroker
from tests.support.oidc_app import CALLBACK, SETTINGS, RelyingParty, new_challenge, relying_party
from tests.support.oidc_browser import AUTHORIZE, ScanBrowser, new_person, parse
from tests.support.oidc_site import a_site, answer_in, location_of


async def push(app: RelyingParty, **headers: str) -> int:
    """Push a request as anyone who knows the app's id, and return the status."""
    form = {"client_id": app.id, "redirect_uri": CALLBACK, "response_type": "code"}
    form |= new_challenge().fields
    return (await app.request("POST", "par", data=form, headers=headers)).status


async def test_pushed_requests_of_public_apps_count_by_address(start_broker: StartBroker) -> None:
    """Anyone can push them: an attacker would otherwise use up the limit of the app."""
    settings = {**SETTINGS, "begins_per_minute": 2, "trusted_proxies": "127.0.0.0/8"}
    broker = await start_broker(**settings)
    async with relying_party(broker, client_type="public") as app:
        flood = [await push(app, **{"X-Forwarded-For": "198.51.100.1"}) for _ in range(30)]
        other = await push(app, **{"X-Forwarded-For": "198.51.100.2"})

    assert flood[-1] == 429
    assert other == 201


async def test_codes_without_scan_are_limited_by_session(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    """The state stores each code: one signed-in browser could fill it."""
    settings = {"begins_per_minute": 4}
    async with a_site(start_broker, tmp_path, settings=settings, sso=True) as (site, browser):
        await browser.redirect_after_sign_in(site.url(), new_person())
        statuses = []
        for _ in range(6):
            async with browser.http.get(site.url(), allow_redirects=False) as response:
                statuses.append(response.status)

    assert statuses[0] == 303
    assert statuses[-1] == 429


async def test_invented_request_cookies_are_ignored(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    """Their names would be invalid in the answer, and the browser could begin no request."""
    cookie = "; ".join(f"scan-login-r-a/{number}@[=x" for number in range(20))
    async with a_site(start_broker, tmp_path) as (site, browser):
        page = await browser.open(site.url(), Cookie=cookie)

    assert page.status == 200
    assert parse(page.text).widget["request"]


async def test_pushed_request_is_completed_by_one_session(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    """A request that was completed by single sign-on gives no other browser a code."""
    async with (
        a_site(start_broker, tmp_path, sso=True) as (site, browser),
        ScanBrowser(site.provider.issuer) as other,
    ):
        for one in (browser, other):
            await one.redirect_after_sign_in(site.url(), new_person())
        endpoint = f"{site.provider.issuer}{AUTHORIZE}"
        pushed = await browser.post(endpoint, site.fields(), follow=False)
        url = pushed.headers["Location"]

        answers = [answer_in(await browser.redirect_of(url)) for _ in range(2)]
        of_other = await location_of(other, url)

    assert all("code" in answer for answer in answers)
    assert of_other is None
