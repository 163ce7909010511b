"""The provider's pages: sign in, return to the app by a form, sign out, and errors."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from broker.apps.model import App
from broker.errors import BrokerError
from broker.infrastructure.api.pages import HTMLPage, SafeHTML, escape, preferred_language
from broker.infrastructure.fields import parse_origin
from broker.oidc.model import AuthorizationRequest
from broker.oidc.page_texts import (
    FORM_POST_TEXTS,
    MESSAGES,
    PHONE_APPS,
    SCOPE_TEXTS,
    SIGN_IN_TEXTS,
    Texts,
)
from broker.oidc.requests import shown_scopes

STATIC = Path(__file__).parent / "static"

SUBMIT_SCRIPT = SafeHTML("document.forms[0].submit()")

PRETEND_SCRIPT = SafeHTML("""
document.querySelector("scan-login").addEventListener("scan-login-begun", ({ detail }) => {
  const link = document.querySelector("#phone");
  const url = new URL(link.dataset.url);
  url.searchParams.set("scene", detail.scene);
  link.href = url.href;
});
""")
"""Makes the link open the code in the page that simulates a phone."""


def _hash(script: str) -> str:
    return b64encode(hashlib.sha256(script.encode()).digest()).decode()


SIGN_IN_POLICY = (
    f"default-src 'none'; script-src 'self' 'sha256-{_hash(PRETEND_SCRIPT)}'; style-src 'self'; "
    "connect-src 'self' {socket}; "
    "img-src data: {{images}}; base-uri 'none'; frame-ancestors 'none'"
)
"""No `form-action`: Chromium applies it to each redirect after the form, also those of the app."""

FORM_POST_POLICY = (
    f"default-src 'none'; script-src 'sha256-{_hash(SUBMIT_SCRIPT)}'; style-src 'self'; "
    "base-uri 'none'; frame-ancestors {ancestors}"
)
"""The app may frame this page, as it may frame the redirect that it replaces: with `prompt=none`
an app opens the request in an iframe. No `form-action`, as above."""

FORM_REFERRER_POLICY = "same-origin"
"""With `no-referrer`, Chromium sends `Origin: null` with the page's own form."""

HINT_MAX = 100
"""Characters of a `login_hint` that the page shows."""

ICONS = {
    "error": "!",
    "busy": "…",
    "restart": "↻",
    "foreign": "!",
    "logout": "?",
    "signed_out": "✓",
}


PAGE_STATUSES = (400, 403, 429, 503)
"""Errors that are pages: a person reads them."""


class ProviderPages:
    """Renders the pages in Chinese or English.

    Each method takes the language `zh` or `en`; if it is empty, the browser's languages decide.

    public_url: where browsers reach the broker.
    pictures_url: the CSP source of pictures of codes.
    phone_page_url: the page that simulates a phone, for apps with the provider `pretend`.
    """

    def __init__(self, *, public_url: str, pictures_url: str, phone_page_url: str) -> None:
        self._phone_page_url = phone_page_url
        parts = urlsplit(public_url)
        self._host = parts.netloc
        scheme = "wss" if parts.scheme == "https" else "ws"
        self._sign_in = HTMLPage(
            STATIC / "sign_in.html",
            image_source=pictures_url,
            policy=SIGN_IN_POLICY.format(socket=f"{scheme}://{parts.netloc}"),
            referrer_policy=FORM_REFERRER_POLICY,
        )
        self._form_post = HTMLPage(
            STATIC / "form_post.html",
            policy=FORM_POST_POLICY,
            referrer_policy=FORM_REFERRER_POLICY,
        )
        self._message = HTMLPage(STATIC / "message.html")
        self._logout = HTMLPage(STATIC / "message.html", referrer_policy=FORM_REFERRER_POLICY)

    def sign_in(self, http: web.Request, request: AuthorizationRequest, app: App) -> web.Response:
        """The page with the code."""
        language = request.language or preferred_language(http)
        phone = PHONE_APPS[language].get(app.provider, "")
        hint = _account_name(request.login_hint or "")
        texts = _filled(
            SIGN_IN_TEXTS[language], app=app.name, phone=phone, host=self._host, hint=hint
        )
        logo_origin = _origin_of(app.logo_url or "")
        values = {
            **texts,
            "open": texts["open"] if phone else texts["open_any"],
            "logo": _logo(app, logo_origin),
            "host": urlsplit(app.home_url or request.redirect_uri).netloc,
            "hint": _paragraph(texts["hint"]) if hint else "",
            "scopes": _scopes(
                shown_scopes(request.scope, request.claims),
                SCOPE_TEXTS[language],
                texts["nothing"],
            ),
            "pretend": self._pretend(app, texts["pretend"]),
            "app": app.id,
            "request": request.id,
        }
        return self._sign_in.render(values, image_origin=logo_origin)

    def _pretend(self, app: App, text: str) -> SafeHTML:
        if app.provider != "pretend":
            return SafeHTML()
        url = escape(self._phone_page_url)
        return SafeHTML(
            f'<p><a id="phone" target="_blank" data-url="{url}">{escape(text)}</a></p>'
            f"<script>{PRETEND_SCRIPT}</script>"
        )

    def form_post(
        self, http: web.Request, url: str, fields: Mapping[str, str], app: App, language: str
    ) -> web.Response:
        """A form that posts `fields` to `url` at once (OAuth 2.0 Form Post Response Mode)."""
        texts = FORM_POST_TEXTS[language or preferred_language(http)]
        values = {
            **_filled(texts, app=app.name),
            "url": url,
            "fields": _hidden_fields(fields),
            "script": SUBMIT_SCRIPT,
        }
        return self._form_post.render(values, frame_origin=_origin_of(url))

    def error(self, http: web.Request, error: BrokerError, language: str = "") -> web.Response:
        """An error that is not for the app: the app, or its URL, is unknown."""
        kind = "error" if error.retry_after is None else "busy"
        detail = f"{error.error}: {error}" if kind == "error" else ""
        more = SafeHTML(f"<pre>{escape(detail)}</pre>") if detail else SafeHTML()
        response = self._show(http, kind, language, more=more, status=error.status)
        if error.retry_after is not None:
            response.headers[hdrs.RETRY_AFTER] = str(error.retry_after)
        return response

    def restart(self, http: web.Request, app: App | None, language: str = "") -> web.Response:
        """The request is used, expired or unknown.  app: to link to its `home_url`."""
        return self._show(http, "restart", language, app=app, status=400)

    def foreign(self, http: web.Request) -> web.Response:
        """The form was not sent by this browser's sign-in page."""
        return self._show(http, "foreign", "", status=403)

    def logout(
        self, http: web.Request, fields: Mapping[str, str], language: str = ""
    ) -> web.Response:
        """A button that posts `fields` to the logout endpoint."""
        texts = MESSAGES[language or preferred_language(http)]["logout"]
        more = SafeHTML(
            f'<form action="logout" method="post">{_hidden_fields(fields)}'
            f"<button>{escape(texts['button'])}</button></form>"
        )
        return self._show(http, "logout", language, more=more)

    def signed_out(self, http: web.Request, app: App | None, language: str = "") -> web.Response:
        """app: to link to its `home_url`."""
        return self._show(http, "signed_out", language, app=app)

    def _show(
        self,
        http: web.Request,
        kind: str,
        language: str,
        *,
        app: App | None = None,
        more: SafeHTML = SafeHTML(),  # noqa: B008 - immutable
        status: int = 200,
    ) -> web.Response:
        texts = MESSAGES[language or preferred_language(http)][kind]
        filled = _filled(texts, app=app.name if app else "", host=self._host)
        if app is not None and app.home_url and "link" in filled:
            more = _link(app.home_url, filled["link"])
        page = self._logout if kind == "logout" else self._message
        values = {**filled, "icon": ICONS[kind], "tone": kind, "more": more}
        return page.render(values, status=status)


def _filled(texts: Texts, **names: str) -> dict[str, str]:
    """Return the texts with each `{name}` replaced once; a name may itself hold braces."""
    return {key: _fill(text, names) for key, text in texts.items()}


def _fill(text: str, names: Mapping[str, str]) -> str:
    before, brace, rest = text.partition("{")
    name, _, after = rest.partition("}")
    return before + names.get(name, f"{{{name}}}") + _fill(after, names) if brace else before


def _account_name(hint: str) -> str:
    """Return the hint if it can be the name of an account, or "": anyone can write a text in it."""
    is_name = len(hint) <= HINT_MAX and " " not in hint and hint.isprintable()
    return hint if is_name else ""


def _origin_of(url: str) -> str:
    """Return the Origin of a URL; empty if a policy cannot name it."""
    parts = urlsplit(url)
    try:
        return parse_origin(f"{parts.scheme}://{parts.netloc.lower()}") if url else ""
    except ValueError:
        return ""


def _logo(app: App, origin: str) -> SafeHTML:
    """Return the app's logo; the first letter of its name if it has none."""
    if not origin:
        letter = escape(app.name[:1].upper())
        return SafeHTML(f'<span class="monogram" aria-hidden="true">{letter}</span>')
    url = escape(app.logo_url or "")
    return SafeHTML(f'<img class="logo" src="{url}" alt="" referrerpolicy="no-referrer">')


def _paragraph(text: str) -> SafeHTML:
    return SafeHTML(f"<p>{escape(text)}</p>")


def _link(url: str, text: str) -> SafeHTML:
    return SafeHTML(f'<a class="button" href="{escape(url)}">{escape(text)}</a>')


def _scopes(scope: Sequence[str], texts: Texts, nothing: str) -> SafeHTML:
    words = [texts[name] for name in scope] or [nothing]
    return SafeHTML("".join(f"<li>{escape(word)}</li>" for word in words))


def _hidden_fields(fields: Mapping[str, str]) -> SafeHTML:
    return SafeHTML(
        "".join(
            f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
            for name, value in fields.items()
        )
    )
