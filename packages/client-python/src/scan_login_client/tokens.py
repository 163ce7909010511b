"""The check of an access token (RFC 9068), and its claims. It has no clock and no I/O."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jwt
from scan_login_client.errors import InvalidToken, UnknownKey

TOKEN_TYPES = frozenset({"at+jwt", "application/at+jwt"})
"""RFC 9068, section 4. An ID token has another type."""

TOKEN_MAX_CHARACTERS = 16 * 1024

REQUIRED_CLAIMS = ("iss", "sub", "aud", "exp", "iat", "jti")


class Rules(NamedTuple):
    """Rules for the tokens of a site.

    issuer: the public URL of the broker. audience: the id of the site's app.
    algorithms: never read from the token, because a forger must not choose the algorithm.
    leeway: seconds that the clocks of broker and site may differ.
    """

    issuer: str
    audience: str
    algorithms: tuple[str, ...]
    leeway: float


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of a valid token. Times are Unix times in seconds.

    sub: the user. name: of the user, if the broker gives it to the app.
    jti: the id of the token; accept each one once, see `SpentTokens`.
    auth_time: when the user confirmed. amr: `("scan",)` or `("scan", "match")`.
    idp: the provider. sid: the sign-in session of OpenID Connect.
    extra: all other claims.
    """

    iss: str
    sub: str
    aud: tuple[str, ...]
    exp: float
    iat: float
    jti: str
    auth_time: float | None
    amr: tuple[str, ...]
    name: str | None
    idp: str | None
    client_id: str | None
    scope: tuple[str, ...]
    sid: str | None
    extra: Mapping[str, object]


NAMED = frozenset(Claims.__dataclass_fields__) - {"extra"}


def read_token(body: bytes) -> object:
    """Return `access_token` of a JSON body, as the widget's page sends it.

    Raises InvalidToken for any other body.
    """
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict) or "access_token" not in given:
        raise InvalidToken("the body is not a JSON object with an access_token")
    return given["access_token"]


def check_token(
    token: object, keys: Mapping[str, jwt.PyJWK], rules: Rules, *, now: float
) -> Claims:
    """Return the claims of a token. Raises InvalidToken, and UnknownKey for an unknown `kid`.

    keys: the broker's public keys by `kid`. now: Unix time in seconds.
    """
    if not isinstance(token, str) or len(token) > TOKEN_MAX_CHARACTERS:
        raise InvalidToken("the token is not a text, or too long")
    try:
        key = _key_of(token, keys, rules)
        payload: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=list(rules.algorithms),
            issuer=rules.issuer,
            audience=rules.audience,
            options={
                "require": list(REQUIRED_CLAIMS),
                # PyJWT would compare times with the clock of the process instead of `now`.
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
            },
        )
    except jwt.PyJWTError as error:
        raise InvalidToken(f"the token is invalid: {error}") from error
    except (RecursionError, ValueError) as error:  # deeply nested JSON, lone surrogates
        raise InvalidToken("the token is malformed") from error
    _check_times(payload, rules.leeway, now)
    return _claims_of(payload)


def _key_of(token: str, keys: Mapping[str, jwt.PyJWK], rules: Rules) -> jwt.PyJWK:
    header = jwt.get_unverified_header(token)
    if str(header.get("typ")).lower() not in TOKEN_TYPES:
        raise InvalidToken("not an access token: its type is not at+jwt")
    algorithm = header.get("alg")
    if algorithm not in rules.algorithms:
        raise InvalidToken("the algorithm of the token is not allowed")
    key = keys.get(str(header.get("kid")))
    if key is None:
        raise UnknownKey("the broker has not published the key of the token")
    if key.algorithm_name != algorithm:
        raise InvalidToken("the key of the token is for another algorithm")
    return key


def _check_times(payload: Mapping[str, Any], leeway: float, now: float) -> None:
    if _time(payload, "exp") <= now - leeway:
        raise InvalidToken("the token has expired")
    for name in ("iat", "nbf"):
        if name in payload and _time(payload, name) > now + leeway:
            raise InvalidToken(f"{name} is in the future; compare the clocks of broker and site")


def _claims_of(payload: Mapping[str, Any]) -> Claims:
    audience = payload["aud"]
    return Claims(
        iss=payload["iss"],
        sub=_text(payload, "sub"),
        aud=(audience,) if isinstance(audience, str) else tuple(audience),
        exp=_time(payload, "exp"),
        iat=_time(payload, "iat"),
        jti=_text(payload, "jti"),
        auth_time=_time(payload, "auth_time") if "auth_time" in payload else None,
        amr=_texts(payload, "amr"),
        name=_optional_text(payload, "name"),
        idp=_optional_text(payload, "idp"),
        client_id=_optional_text(payload, "client_id"),
        scope=tuple((_optional_text(payload, "scope") or "").split()),
        sid=_optional_text(payload, "sid"),
        extra={name: value for name, value in payload.items() if name not in NAMED},
    )


def _time(payload: Mapping[str, Any], name: str) -> float:
    value = payload[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidToken(f"{name} is not a time")
    return value


def _text(payload: Mapping[str, Any], name: str) -> str:
    value = payload[name]
    if not isinstance(value, str) or not value:
        raise InvalidToken(f"{name} is not a text")
    return value


def _optional_text(payload: Mapping[str, Any], name: str) -> str | None:
    return _text(payload, name) if name in payload else None


def _texts(payload: Mapping[str, Any], name: str) -> tuple[str, ...]:
    values = payload.get(name, [])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise InvalidToken(f"{name} is not a list of texts")
    return tuple(values)
