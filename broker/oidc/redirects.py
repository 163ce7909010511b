"""Answers to an app by way of the browser."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from aiohttp import hdrs, web

from broker.apps.model import App
from broker.errors import BrokerError
from broker.oidc.pages import ProviderPages
from broker.oidc.requests import Destination


class AppRedirects:
    """Sends codes and errors to apps, by redirect or by `form_post`.

    issuer: sent as `iss`, so that the app knows who answers (RFC 9207).
    """

    def __init__(self, *, issuer: str, pages: ProviderPages) -> None:
        self._issuer = issuer
        self._pages = pages

    def code(
        self, http: web.Request, app: App, destination: Destination, code: str
    ) -> web.Response:
        return self._answer(http, app, destination, {"code": code})

    def error(
        self, http: web.Request, app: App, destination: Destination, error: BrokerError
    ) -> web.Response:
        fields = {"error": error.error, "error_description": str(error)}
        return self._answer(http, app, destination, fields)

    def _answer(
        self, http: web.Request, app: App, destination: Destination, fields: dict[str, str]
    ) -> web.Response:
        if destination.state is not None:
            fields["state"] = destination.state
        fields["iss"] = self._issuer
        if destination.response_mode == "form_post":
            url, language = destination.redirect_uri, destination.language
            return self._pages.form_post(http, url, fields, app, language)
        return redirect(with_query(destination.redirect_uri, fields))


def with_query(url: str, fields: Mapping[str, str]) -> str:
    """Return the URL with further query fields; it has no fragment."""
    return f"{url}{'&' if '?' in url else '?'}{urlencode(fields)}"


def redirect(url: str) -> web.Response:
    """Return a 303, after which every browser sends a GET (RFC 9700, section 4.12)."""
    headers = {
        hdrs.LOCATION: url,
        hdrs.CACHE_CONTROL: "no-store",
        "Referrer-Policy": "no-referrer",
    }
    return web.Response(status=303, headers=headers)
