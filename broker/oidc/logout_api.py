"""RP-initiated logout: `GET` and `POST /oauth/logout`.

OpenID Connect RP-Initiated Logout 1.0, section 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from broker.apps.model import App
from broker.apps.ports import Apps
from broker.errors import BrokerError, InvalidRequest
from broker.infrastructure.api.bodies import read_form
from broker.infrastructure.api.endpoint import Endpoint
from broker.infrastructure.api.errors import to_broker_error
from broker.infrastructure.fields import normalize_origin
from broker.oidc.browser_sign_ins import BrowserSignIns
from broker.oidc.cookies import ProviderCookies
from broker.oidc.login_api import is_same_origin_form
from broker.oidc.pages import PAGE_STATUSES, ProviderPages
from broker.oidc.paths import END_SESSION_PATH
from broker.oidc.redirects import redirect, with_query
from broker.oidc.requests import FIELD_MAX, Fields, page_language
from broker.oidc.sign_ins import SignInService
from broker.tokens.issuer import TokenIssuer


class LogoutAPI:
    """Ends sign-in sessions at the request of an app.

    Without a hint, or with a hint for another session, a page asks the user: an image on any
    page could otherwise sign its visitors out.
    """

    def __init__(
        self,
        *,
        apps: Apps,
        issuer: TokenIssuer,
        sign_in_service: SignInService,
        sign_ins: BrowserSignIns,
        cookies: ProviderCookies,
        pages: ProviderPages,
        public_url: str,
    ) -> None:
        self._apps = apps
        self._issuer = issuer
        self._sign_in_service = sign_in_service
        self._sign_ins = sign_ins
        self._cookies = cookies
        self._pages = pages
        self._origin = normalize_origin(public_url)

    async def get(self, http: web.Request) -> web.Response:
        return await self._guarded(http, Fields(http.query.items()), is_confirmed=False)

    async def post(self, http: web.Request) -> web.Response:
        try:
            fields = Fields((await read_form(http)).items())
        except BrokerError as error:
            return self._pages.error(http, to_broker_error(error))
        is_confirmed = bool(fields.get("confirm", "")) and is_same_origin_form(http, self._origin)
        return await self._guarded(http, fields, is_confirmed=is_confirmed)

    async def _guarded(
        self, http: web.Request, fields: Fields, *, is_confirmed: bool
    ) -> web.Response:
        try:
            return await self._answer(http, fields, is_confirmed=is_confirmed)
        except BrokerError as error:
            return self._pages.error(http, to_broker_error(error))

    async def _answer(
        self, http: web.Request, fields: Fields, *, is_confirmed: bool
    ) -> web.Response:
        hint = self._parse_hint(fields)
        app = self._app_of(fields, hint)
        sign_in = await self._sign_ins.by_cookie(self._cookies.sign_in(http))
        if hint is not None and (sign_in is None or sign_in.sid == hint.get("sid")):
            await self._end(str(hint["sub"]), str(hint.get("sid", "")))
            return self._signed_out(http, fields, app)
        if sign_in is not None and not is_confirmed:
            language = page_language(fields)
            return self._pages.logout(http, {**_kept(fields), "confirm": "1"}, language)
        if sign_in is not None:
            await self._end(sign_in.subject, sign_in.sid)
        return self._signed_out(http, fields, app)

    def _parse_hint(self, fields: Fields) -> Mapping[str, Any] | None:
        if any(len(text) > FIELD_MAX for name, text in fields.items() if name != "id_token_hint"):
            raise InvalidRequest(f"a field has more than {FIELD_MAX} characters")
        text = fields.get("id_token_hint", "")
        return self._issuer.verify_id_token_hint(text) if text else None

    def _app_of(self, fields: Fields, hint: Mapping[str, Any] | None) -> App | None:
        """Return the app. Raises InvalidRequest if `client_id` is not that of the hint."""
        client_id = fields.get("client_id", "")
        if hint is not None and client_id not in ("", hint["aud"]):
            raise InvalidRequest("client_id: is not the audience of id_token_hint")
        return self._apps.get(str(hint["aud"]) if hint is not None else client_id)

    async def _end(self, subject: str, sid: str) -> None:
        await self._sign_in_service.end(subject, sid, offline_too=False, reason="logout")

    def _signed_out(self, http: web.Request, fields: Fields, app: App | None) -> web.Response:
        """Redirect to the app if it has registered the URL, and else show a page."""
        url = fields.get("post_logout_redirect_uri", "")
        if app is not None and url in app.post_logout_urls:
            state = fields.get("state", "")
            response = redirect(with_query(url, {"state": state}) if state else url)
        else:
            response = self._pages.signed_out(http, app, page_language(fields))
        if self._cookies.sign_in(http) is not None:
            # Another site's form arrives without the cookie, and must not delete it.
            self._cookies.delete_sign_in(response)
        return response


def _kept(fields: Fields) -> dict[str, str]:
    """Return the fields that the page posts again after the user has confirmed."""
    kept = ("client_id", "post_logout_redirect_uri", "state", "ui_locales")
    return {name: fields[name] for name in kept if name in fields}


ENDPOINTS = [
    Endpoint(
        method,
        END_SESSION_PATH,
        handler,
        role="oidc",
        operation_id=operation_id,
        summary="Sign out, and return to the app",
        response="text/html",
        page_statuses=PAGE_STATUSES,
    )
    for method, operation_id, handler in (
        ("GET", "signOut", LogoutAPI.get),
        ("POST", "signOutByForm", LogoutAPI.post),
    )
]
