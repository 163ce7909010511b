"""Checks of an authorization request, from `/oauth/authorize` and `/oauth/par`.

RFC 6749, section 4.1.1, RFC 7636, RFC 9126, and OpenID Connect Core, section 3.1.2.

`find_destination` raises errors that a page shows, because it is not known yet where the browser
may be redirected to. All errors of `parse_request` go to the app by a redirect.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from broker.apps.model import App
from broker.apps.rules import SCOPES
from broker.errors import InvalidRequest
from broker.infrastructure.base64url import is_256_bits
from broker.infrastructure.codec import decode
from broker.oidc.authorization_errors import (
    RequestNotSupported,
    RequestUriNotSupported,
    UnsupportedResponseType,
)
from broker.oidc.claims import SCOPE_CLAIMS
from broker.oidc.model import ACR_MATCH
from broker.oidc.rules import PROMPTS, RESPONSE_MODES

FIELD_MAX, TOTAL_MAX, HINT_TOTAL_MAX = 2_048, 8_192, 16_384
"""Characters of one field, and of all fields without and with an `id_token_hint`."""

MAX_AGE_MAX = 2**31

LOOPBACK_PATTERN = re.compile(r"(http://(?:127\.0\.0\.1|\[::1\]))(?::[0-9]{1,5})?((?:/.*)?)")
"""A loopback redirect URI, whose port the operating system chooses (RFC 8252, section 7.3)."""


class Fields(dict[str, str]):
    """The fields of a query or form, without empty ones (RFC 6749, section 3.1).

    repeated: names that were sent more than once.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        pairs = list(pairs)
        super().__init__((name, value) for name, value in pairs if value)
        counts = Counter(name for name, _ in pairs)
        self.repeated = frozenset(name for name, count in counts.items() if count > 1)


class Destination(NamedTuple):
    """The URL and form of the answer to a request.  language: of a page on the way."""

    redirect_uri: str
    response_mode: str
    state: str | None
    language: str


class ParsedRequest(NamedTuple):
    """A valid request. The fields have the meaning of those of `AuthorizationRequest`."""

    destination: Destination
    scope: tuple[str, ...]
    nonce: str | None
    code_challenge: str | None
    claims: tuple[str, ...]
    prompt: str
    max_age: int | None
    id_token_hint: str | None
    login_hint: str | None
    match: bool


def find_destination(fields: Fields, app: App) -> Destination:
    """Return where the answer goes. Raises InvalidRequest, for a page."""
    if not app.redirect_urls:
        raise InvalidRequest("client_id: the app has no redirect_urls; add one with app set")
    if fields.repeated & {"client_id", "redirect_uri"}:
        raise InvalidRequest("client_id and redirect_uri can be sent once only")
    redirect_uri = fields.get("redirect_uri", "")
    if not is_redirect_uri(redirect_uri, app):
        raise InvalidRequest(
            "redirect_uri: not one of the app's redirect_urls, which must match in each character"
        )
    mode = fields.get("response_mode", "")
    return Destination(
        redirect_uri=redirect_uri,
        response_mode=mode if mode in RESPONSE_MODES else "query",
        state=_optional(fields, "state"),
        language=page_language(fields),
    )


def is_redirect_uri(url: str, app: App) -> bool:
    """Return whether `url` is registered, apart from the port of a loopback address."""
    if url in app.redirect_urls:
        return True
    return app.loopback and _portless(url) in map(_portless, app.redirect_urls)


def _portless(url: str) -> tuple[str, ...]:
    """Return a loopback URL without its port; another URL is equal to itself only."""
    found = LOOPBACK_PATTERN.fullmatch(url)
    return (url,) if found is None else found.groups()


def parse_request(fields: Fields, app: App, destination: Destination) -> ParsedRequest:
    """Return the request. Raises a BrokerError that is for the app."""
    for check in CHECKS:
        check(fields, app)
    scope = fields.get("scope", "").split()
    return ParsedRequest(
        destination=destination,
        scope=tuple(name for name in SCOPES if name in scope and name in app.scopes),
        nonce=_optional(fields, "nonce"),
        code_challenge=_optional(fields, "code_challenge"),
        claims=_requested_claims(fields, app),
        prompt=_prompt(fields),
        max_age=_max_age(fields),
        id_token_hint=_optional(fields, "id_token_hint"),
        login_hint=_optional(fields, "login_hint"),
        match=ACR_MATCH in fields.get("acr_values", "").split(),
    )


def _check_response(fields: Fields, app: App) -> None:
    if fields.get("response_type", "") != "code":
        raise UnsupportedResponseType
    if fields.get("response_mode", "query") not in RESPONSE_MODES:
        raise InvalidRequest(f"response_mode: use one of {', '.join(RESPONSE_MODES)}")


def _check_request_objects(fields: Fields, app: App) -> None:
    if "request" in fields:
        raise RequestNotSupported
    if "request_uri" in fields:
        raise RequestUriNotSupported


def _check_sizes(fields: Fields, app: App) -> None:
    if fields.repeated:
        raise InvalidRequest("a field is sent twice")
    if any(len(value) > FIELD_MAX for name, value in fields.items() if name != "id_token_hint"):
        raise InvalidRequest(f"a field has more than {FIELD_MAX} characters")
    total = sum(len(name) + len(value) for name, value in fields.items())
    if total > (HINT_TOTAL_MAX if "id_token_hint" in fields else TOTAL_MAX):
        raise InvalidRequest("the fields are too long")


def _check_pkce(fields: Fields, app: App) -> None:
    challenge = fields.get("code_challenge", "")
    if not challenge:
        if app.client_type == "public" or app.pkce == "required":
            raise InvalidRequest("code_challenge: this app must use PKCE (RFC 7636)")
        return
    if fields.get("code_challenge_method", "plain") != "S256":
        raise InvalidRequest("code_challenge_method: must be S256")
    if not is_256_bits(challenge):  # a SHA-256 (RFC 7636, section 4.2)
        raise InvalidRequest("code_challenge: must be 43 URL-safe characters")


def _check_prompt(fields: Fields, app: App) -> None:
    prompts = fields.get("prompt", "").split()
    if "none" in prompts and len(prompts) > 1:
        raise InvalidRequest("prompt: none cannot be combined with another value")


def _check_max_age(fields: Fields, app: App) -> None:
    text = fields.get("max_age", "")
    if text and not (text.isascii() and text.isdigit() and int(text) <= MAX_AGE_MAX):
        raise InvalidRequest("max_age: must be whole seconds")


CHECKS: Sequence[Callable[[Fields, App], None]] = (
    _check_response,
    _check_request_objects,
    _check_sizes,
    _check_pkce,
    _check_prompt,
    _check_max_age,
)
"""In the order in which errors are reported."""


def _optional(fields: Fields, name: str) -> str | None:
    return fields.get(name, "") or None


def _prompt(fields: Fields) -> str:
    prompts = fields.get("prompt", "").split()
    return next((prompt for prompt in PROMPTS if prompt in prompts), "")


def _max_age(fields: Fields) -> int | None:
    text = fields.get("max_age", "")
    return int(text) if text else None


LANGUAGES = ("en", "zh")
"""The languages of the pages, as primary subtags of `ui_locales` (RFC 5646)."""


def page_language(fields: Fields) -> str:
    """Return the language that `ui_locales` selects; empty for none."""
    tags = fields.get("ui_locales", "").lower().split()
    primary = [tag.partition("-")[0] for tag in tags]
    return next((tag for tag in primary if tag in LANGUAGES), "")


def _requested_claims(fields: Fields, app: App) -> tuple[str, ...]:
    """Return the claims that the parameter `claims` names and the app's scopes allow.

    All are voluntary (OpenID Connect Core, section 5.5.1). An invalid parameter is ignored.
    """
    requested = _claim_names(fields.get("claims", ""))
    allowed = [name for scope in app.scopes for name in SCOPE_CLAIMS[scope] if name != "sub"]
    return tuple(name for name in allowed if name in requested)


def _claim_names(text: str) -> set[str]:
    """Return the names of all claims in the parameter `claims`."""
    parts: object = None
    with suppress(ValueError, RecursionError):
        parts = decode(text)
    if not isinstance(parts, dict):
        return set()
    members = (parts.get(part) for part in ("userinfo", "id_token"))
    return {name for member in members if isinstance(member, dict) for name in member}


def shown_scopes(scope: Sequence[str], claims: Sequence[str]) -> tuple[str, ...]:
    """Return the granted scopes and those of single claims, for the phone."""
    return tuple(
        name
        for name in SCOPES
        if name in scope or any(claim in claims for claim in SCOPE_CLAIMS[name])
    )
