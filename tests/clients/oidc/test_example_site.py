"""The example site as a client of OpenID Connect."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest
from yarl import URL

from broker.infrastructure.runtime.server import Site, serve_sites
from tests.support.clients import PhoneClient
from tests.support.environment import free_port
from tests.support.oidc_browser import ScanBrowser, new_person
from tests.support.oidc_provider import Provider
from tests.support.waiting import eventually
from web_demo.oidc import OIDCClient
from web_demo.site import build_site


class Example(NamedTuple):
    url: str
    provider: Provider
    browser: ScanBrowser

    async def sign_in(self, person: str) -> str:
        """Return the text of the page after the sign-in."""
        return (await self.browser.sign_in(f"{self.url}/oidc/sign-in", person)).text

    async def is_signed_in(self) -> bool:
        page = await self.browser.open(f"{self.url}/account")
        return page.url.path == "/account"


@pytest.fixture
async def example(provider: Provider) -> AsyncIterator[Example]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    secret = await provider.add_app(
        "example",
        redirect_urls=[f"{url}/oidc/callback"],
        post_logout_urls=[f"{url}/"],
        backchannel_logout_url=f"{url}/oidc/backchannel-logout",
    )
    client = OIDCClient(
        issuer=provider.issuer, client_id="example", client_secret=secret, site_url=url
    )
    site = build_site(broker_url=provider.issuer, oidc=client)
    async with (
        serve_sites([Site("site", site, "127.0.0.1", port, "PORT")]),
        ScanBrowser(provider.issuer, phones=provider.phones) as browser,
    ):
        yield Example(url, provider, browser)


async def test_account_shows_the_person(example: Example) -> None:
    person = new_person()

    text = await example.sign_in(person)

    assert f"Signed in as {person}" in text


async def test_sign_out_returns_from_the_provider(example: Example) -> None:
    await example.sign_in(new_person())

    page = await example.browser.post(f"{example.url}/sign-out", {}, Origin=example.url)

    assert page.url == URL(f"{example.url}/")
    assert any(url.path.endswith("/oauth/logout") for url in page.trail)
    assert not await example.is_signed_in()


async def test_end_on_the_phone_signs_out(example: Example) -> None:
    person = new_person()
    await example.sign_in(person)
    assert await example.is_signed_in()

    async with PhoneClient(example.provider.phones, person) as phone:
        await phone.delete("signins")

    async def is_signed_out() -> bool:
        return not await example.is_signed_in()

    await eventually(is_signed_out)


async def test_code_of_another_browser_is_refused(
    example: Example, caplog: pytest.LogCaptureFixture
) -> None:
    """An attacker cannot sign a visitor in as the attacker (login CSRF)."""
    begun = await example.browser.open(f"{example.url}/oidc/sign-in")
    location = await example.browser.redirect_after_sign_in(begun.url, new_person())

    async with ScanBrowser(example.provider.issuer) as visitor:
        page = await visitor.open(location)

    assert "The sign-in did not succeed" in page.text
    assert "began in another browser" in caplog.text


async def test_failed_sign_in_is_reported_in_chinese(example: Example) -> None:
    page = await example.browser.open(f"{example.url}/oidc/callback?lang=zh&code=unknown")

    assert "登录未成功" in page.text
    assert "expired" not in page.text  # the description for developers


async def test_cancelled_sign_in_shows_the_reason(example: Example) -> None:
    page = await example.browser.open(f"{example.url}/oidc/sign-in")

    after = await example.browser.cancel(page)

    assert "The sign-in was cancelled" in after.text


@pytest.mark.parametrize("token", ["", "x", "a.b.c"])
async def test_invalid_logout_token_is_refused(example: Example, token: str) -> None:
    await example.browser.open(f"{example.url}/oidc/sign-in")

    page = await example.browser.post(
        f"{example.url}/oidc/backchannel-logout", {"logout_token": token}
    )

    assert page.status == 400
