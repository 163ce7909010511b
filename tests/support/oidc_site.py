"""An app of the provider, and the answers that its browser brings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

import aiohttp
import jwt

from tests.support.builders import StartBroker
from tests.support.oidc_browser import AUTHORIZE, ScanBrowser, new_person
from tests.support.oidc_provider import Provider, one_instance

CALLBACK, HOME, AFTER_LOGOUT = (
    f"https://site.example{path}" for path in ("/cb", "/home", "/signed-out")
)

TYPICAL: Mapping[str, object] = {
    "redirect_urls": [CALLBACK],
    "home_url": HOME,
    "post_logout_urls": [AFTER_LOGOUT],
}


class OIDCSite(NamedTuple):
    """An app with a secret. Its pages do not exist; tests read the redirects to them."""

    provider: Provider
    id: str
    secret: str

    def url(self, **fields: str) -> str:
        """Return an authorization URL. A field replaces the usual one; an empty one removes it."""
        return f"{self.provider.issuer}{AUTHORIZE}?{urlencode(self.fields(**fields))}"

    def fields(self, **fields: str) -> dict[str, str]:
        usual = {
            "client_id": self.id,
            "redirect_uri": CALLBACK,
            "response_type": "code",
            "scope": "openid profile",
            "state": "s&=1",
            **fields,
        }
        return {name: value for name, value in usual.items() if value}

    async def exchange(self, code: str) -> dict[str, Any]:
        """Return the answer of the token endpoint, with the claims of the ID token as `claims`."""
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK}
        _, answer = await self.request_token(form)
        if "id_token" in answer:
            answer["claims"] = jwt.decode(answer["id_token"], options={"verify_signature": False})
        return answer

    async def refresh(self, refresh_token: str, **fields: str) -> tuple[int, dict[str, Any]]:
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token, **fields}
        return await self.request_token(form)

    async def request_token(self, form: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        """Return the status and the body of the token endpoint."""
        headers = {"Authorization": aiohttp.encode_basic_auth(self.id, self.secret)}
        url = f"{self.provider.issuer}/oauth/token"
        async with (
            aiohttp.ClientSession() as http,
            http.post(url, data=form, headers=headers) as response,
        ):
            return response.status, await response.json()

    async def signed_in(
        self, browser: ScanBrowser, person: str = "", **fields: str
    ) -> dict[str, Any]:
        """Scan as `person`, by default a new one, and return the answer of the token endpoint."""
        location = await browser.redirect_after_sign_in(self.url(**fields), person or new_person())
        return await self.exchange(answer_in(location)["code"])


def answer_in(location: str) -> dict[str, str]:
    """Return the fields of a redirect to the callback of the app."""
    assert location.startswith(f"{CALLBACK}?"), location
    return dict(parse_qsl(urlsplit(location).query, strict_parsing=True))


async def location_of(browser: ScanBrowser, url: str, **headers: str) -> str | None:
    """Return where the broker sends the browser; None for a page."""
    async with browser.http.get(url, allow_redirects=False, headers=headers) as response:
        return response.headers.get("Location")


async def add_site(provider: Provider, app_id: str = "site", /, **fields: object) -> OIDCSite:
    secret = await provider.add_app(app_id, **{**TYPICAL, **fields})
    return OIDCSite(provider, app_id, secret)


@asynccontextmanager
async def a_site(
    start_broker: StartBroker,
    folder: Path,
    *,
    settings: Mapping[str, object] | None = None,
    **fields: object,
) -> AsyncIterator[tuple[OIDCSite, ScanBrowser]]:
    """An app of a provider with one instance, and a browser."""
    async with AsyncExitStack() as stack:
        start = partial(start_broker, **(settings or {}))
        provider = await stack.enter_async_context(one_instance(start, folder))
        browser = await stack.enter_async_context(ScanBrowser(provider.issuer))
        yield await add_site(provider, **fields), browser
