"""The cookies of the provider: the sign-in session, and one for each authorization request."""

from __future__ import annotations

import hmac
import re
import secrets
from typing import NamedTuple

from aiohttp import web

from broker.infrastructure.base64url import is_256_bits
from broker.oidc.model import AuthorizationRequest, hash_secret

REQUESTS_MAX = 8
"""Cookies of authorization requests in one browser: its tabs. The oldest is deleted."""

REQUEST_LIFETIME = 600
"""Seconds in which a person can scan and confirm."""

REQUEST_NAME_LENGTH = 8
"""Characters of a request's id in the name of its cookie."""

REQUEST_NAME_PATTERN = re.compile(rf"[A-Za-z0-9_-]{{{REQUEST_NAME_LENGTH}}}")


class CookieNames(NamedTuple):
    """sign_in, device: names. request: the beginning of the names of requests' cookies."""

    sign_in: str
    device: str
    request: str


def cookie_names(*, is_secure: bool) -> CookieNames:
    """Return the names. is_secure: whether browsers reach the broker by https."""
    prefix = "__Host-" if is_secure else ""
    return CookieNames(*(f"{prefix}scan-login{suffix}" for suffix in ("", "-d", "-r-")))


class ProviderCookies:
    """Reads and sets the cookies.

    They are HttpOnly and SameSite=Lax. Over https they have the prefix `__Host-`, so that no
    other host of the domain can set them (RFC 6265bis, section 4.1.3.2).

    is_secure: whether browsers reach the broker by https.
    remember_for: seconds for which the sign-in cookie is kept; None until the browser closes.
    """

    def __init__(self, *, is_secure: bool, remember_for: int | None) -> None:
        names = cookie_names(is_secure=is_secure)
        self._is_secure = is_secure
        self._remember_for = remember_for
        self._sign_in = names.sign_in
        self._device = names.device
        self._request_prefix = names.request

    def sign_in(self, http: web.Request) -> str | None:
        """Return the value of the sign-in cookie, or None."""
        return _valid(http.cookies.get(self._sign_in))

    def set_sign_in(self, response: web.StreamResponse, value: str) -> None:
        self._set(response, self._sign_in, value, self._remember_for)

    def delete_sign_in(self, response: web.StreamResponse) -> None:
        self._delete(response, self._sign_in)

    def set_device(self, response: web.StreamResponse, value: str, lifetime: int) -> None:
        self._set(response, self._device, value, lifetime)

    def is_bound(self, http: web.Request, request: AuthorizationRequest) -> bool:
        """Return whether this browser holds the cookie of the request."""
        value = _valid(http.cookies.get(self._name(request.id)))
        expected = request.cookie_hash
        return (
            value is not None
            and expected is not None
            and hmac.compare_digest(hash_secret(value), expected)
        )

    def new_request_cookie(self) -> str:
        return secrets.token_urlsafe(32)

    def set_request(
        self, http: web.Request, response: web.StreamResponse, request_id: str, value: str
    ) -> None:
        """Set the cookie of a request, and delete the oldest ones beyond `REQUESTS_MAX`."""
        name = self._name(request_id)
        # Browsers send older cookies first (RFC 6265, section 5.4).
        others = [one for one in http.cookies if self._is_request(one) and one != name]
        for surplus in others[: max(0, len(others) + 1 - REQUESTS_MAX)]:
            self._delete(response, surplus)
        self._set(response, name, value, REQUEST_LIFETIME)

    def delete_request(self, response: web.StreamResponse, request_id: str) -> None:
        self._delete(response, self._name(request_id))

    def _name(self, request_id: str) -> str:
        return self._request_prefix + request_id[:REQUEST_NAME_LENGTH]

    def _is_request(self, name: str) -> bool:
        """Return whether this is a name that `_name` gives; a browser may send any other."""
        suffix = name.removeprefix(self._request_prefix)
        return suffix != name and bool(REQUEST_NAME_PATTERN.fullmatch(suffix))

    def _set(
        self, response: web.StreamResponse, name: str, value: str, max_age: int | None
    ) -> None:
        response.set_cookie(
            name,
            value,
            max_age=max_age,
            path="/",
            secure=self._is_secure,
            httponly=True,
            samesite="Lax",
        )

    def _delete(self, response: web.StreamResponse, name: str) -> None:
        response.del_cookie(name, path="/", secure=self._is_secure, httponly=True, samesite="Lax")


def _valid(value: str | None) -> str | None:
    return value if value and is_256_bits(value) else None
