"""Rules for the fields of an app, from the command line and from the admin port."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from broker.apps.model import App, AppRecord
from broker.infrastructure.fields import check_text, check_word, is_web_url, parse_origin

ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

CODE_SOURCES = ("live", "pool")

URL_MAX = 500

SECRET_MAX = 512

WAFER_HOST_MAX = 253
"""Characters of a host name (RFC 1035, section 2.3.4)."""

WAFER_KEY_MIN, WAFER_KEY_MAX = 16, 128

LIST_MAX = 100

NETWORKS_MAX = 32

SCOPES = ("openid", "profile", "email", "phone", "groups", "offline_access")
"""Scopes that an app may have, in the order in which they are shown and granted."""

CHOICES: Mapping[str, tuple[str, ...]] = {
    "client_type": ("confidential", "public"),
    "id_token_alg": ("RS256", "ES256"),
    "id_token_claims": ("full", "lean"),
    "pkce": ("optional", "required"),
    "refresh": ("offline_access", "always", "never"),
    "reuse": ("family", "signin"),
    "match": ("off", "number", "code"),
    "show_scanner": ("off", "name", "picture"),
}
"""The values of each field that has few; the first is the default."""

PROVIDER_APP_ID_PATTERNS: Mapping[str, str] = {"wechat": r"^wx[0-9a-zA-Z]{16}$"}
"""The form of `provider_app_id` at each provider whose accounts have an id and a secret. WeChat's
console shows an AppID in this form."""

PRIVATE_SCHEME_PATTERN = re.compile(r"[a-z][a-z0-9-]*(\.[a-z0-9-]+)+:/([^/\s#][^\s#]*)?")
"""A private-use URI scheme is a reversed domain name with at least one dot, and has one slash
(RFC 8252, section 7.1)."""

OPEN_URL_PATTERN = re.compile(
    r"(?!(?:javascript|data|vbscript|blob|file):)[a-z][a-z0-9+.-]*:[!-~]+"
)
"""A URL of any scheme that opens an app, such as `weixin://…`. Schemes that a page runs or reads
itself are refused."""

SCENE_PLACEHOLDER = "{scene}"

LIFETIME_MAX = 3600

SUBJECT_MAX = 255
"""Characters of a subject (OpenID Connect Core, section 2)."""

FILE_TYPES: Mapping[str, str] = {
    "jpeg": "image/jpeg",
    "png": "image/png",
    "gif": "image/gif",
    "webp": "image/webp",
    "mp4": "video/mp4",
    "pdf": "application/pdf",
}
"""Types of files that an app may accept, and their media types. Browsers run scripts in SVG and
HTML, so these are never among them."""

FILES_MAX_BYTES = 1 << 30

FILES_LIFETIME_MAX = 10 * 365 * 86_400

NO_ROOMS, OPEN_ROOMS = "none", "open"
"""Values of `rooms`. Any other is a URL."""


def _id(value: object) -> str:
    if not ID_PATTERN.fullmatch(check_text(value, 64)):
        raise ValueError("must be letters, digits and `._-`, and begin with a letter or digit")
    return str(value)


def _url(value: object) -> str:
    url = check_text(value, URL_MAX)
    if not is_web_url(url) or urlsplit(url).fragment:
        raise ValueError(f"{url!r} is not an http or https URL without a fragment")
    return url


def _optional_url(value: object) -> str | None:
    return None if value is None else _url(value)


def check_open_url(value: object) -> str | None:
    """Return the value of `open_url`. Raises ValueError."""
    if value is None:
        return None
    text = check_text(value, URL_MAX)
    if not OPEN_URL_PATTERN.fullmatch(text) or SCENE_PLACEHOLDER not in text:
        raise ValueError(
            f"{text!r} is not a URL that opens an app; it needs a scheme and {SCENE_PLACEHOLDER}"
        )
    return text


def _redirect_url(value: object) -> str:
    text = check_text(value, URL_MAX)
    return text if PRIVATE_SCHEME_PATTERN.fullmatch(text) else _url(text)


def _scopes(value: object) -> list[str]:
    if not isinstance(value, list | tuple) or not set(map(str, value)) <= set(SCOPES):
        raise ValueError(f"must be a list of {', '.join(SCOPES)}")
    return [scope for scope in SCOPES if scope in value]


def _networks(value: object) -> list[str]:
    if not isinstance(value, list | tuple) or len(value) > NETWORKS_MAX:
        raise ValueError(f"must be a list of at most {NETWORKS_MAX} networks")
    return sorted({str(ipaddress.ip_network(check_text(text, 64))) for text in value})


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _choice(name: str, value: object) -> str:
    if value not in CHOICES[name]:
        raise ValueError(f"must be one of {', '.join(CHOICES[name])}")
    return str(value)


def _list(value: object, check: Callable[[str], str]) -> list[str]:
    if not isinstance(value, list | tuple) or len(value) > LIST_MAX:
        raise ValueError(f"must be a list of at most {LIST_MAX} URLs")
    return sorted({check(check_text(text, URL_MAX)) for text in value})


def check_rooms(value: object) -> str:
    """Return the value of `rooms`. Raises ValueError."""
    return str(value) if value in (NO_ROOMS, OPEN_ROOMS) else _url(value)


def check_moderators(value: object) -> tuple[str, ...]:
    """Return the subjects, sorted and each once. Raises ValueError."""
    if not isinstance(value, list | tuple) or len(value) > LIST_MAX:
        raise ValueError(f"must be a list of at most {LIST_MAX} subjects")
    return tuple(sorted({check_text(text, SUBJECT_MAX) for text in value}))


def _code_source(value: object) -> str:
    if value not in CODE_SOURCES:
        raise ValueError(f"must be one of {', '.join(CODE_SOURCES)}")
    return str(value)


def _number(value: object, most: int, unit: str) -> int | None:
    if value is None:
        return None
    if type(value) is not int or not 1 <= value <= most:
        raise ValueError(f"must be whole {unit} from 1 to {most}, or empty")
    return value


def check_file_types(value: object) -> list[str]:
    """Return the names in `FILE_TYPES`, each once. Raises ValueError."""
    if not isinstance(value, list | tuple) or not set(map(str, value)) <= FILE_TYPES.keys():
        raise ValueError(f"must be a list of {', '.join(FILE_TYPES)}")
    return [name for name in FILE_TYPES if name in value]


def check_wafer_host(value: object) -> str:
    """Return the value of `wafer_host`. Raises ValueError."""
    if value == "":
        return ""
    return check_text(value, WAFER_HOST_MAX)


def check_wafer_key(value: str) -> str:
    """Return the value of `wafer_key`. Raises ValueError, which contains no part of it."""
    if not WAFER_KEY_MIN <= len(value) <= WAFER_KEY_MAX or not value.isprintable():
        raise ValueError(f"use {WAFER_KEY_MIN} to {WAFER_KEY_MAX} printable characters")
    return value


def _wafer_key(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError("must be a string")
    return check_wafer_key(value)


def _secret(value: object) -> str | None:
    return None if value is None else check_text(value, SECRET_MAX)


FIELD_RULES: Mapping[str, Callable[[object], object]] = {
    "id": _id,
    "name": lambda value: check_text(value, 100),
    "provider": check_word,
    "provider_app_id": lambda value: "" if value == "" else check_text(value, 128),
    "provider_secret": _secret,
    "wafer_key": _wafer_key,
    "origins": lambda value: _list(value, parse_origin),
    "redirect_urls": lambda value: _list(value, _redirect_url),
    "register_url": _optional_url,
    "code_source": _code_source,
    "login_lifetime": lambda value: _number(value, LIFETIME_MAX, "seconds"),
    "home_url": _optional_url,
    "post_logout_urls": lambda value: _list(value, _url),
    "backchannel_logout_url": _optional_url,
    "events_url": _optional_url,
    "tunnel_url": _optional_url,
    "wafer_host": check_wafer_host,
    "scopes": _scopes,
    "networks": _networks,
    "rooms": check_rooms,
    "moderators": lambda value: list(check_moderators(value)),
    "logo_url": _optional_url,
    "open_url": check_open_url,
    "files_types": check_file_types,
    "files_max": lambda value: _number(value, FILES_MAX_BYTES, "bytes"),
    "files_lifetime": lambda value: _number(value, FILES_LIFETIME_MAX, "seconds"),
    "files_url": _optional_url,
    "sso": _flag,
    "loopback": _flag,
    "phone_app": lambda value: "" if value == "" else _id(value),
    **{name: partial(_choice, name) for name in CHOICES},
}
"""Checks of the fields that an operator sets: each returns the stored value."""


def find_conflicts(app: Mapping[str, Any]) -> list[str]:
    """Return one line for each pair of fields of an app that do not fit together."""
    return [*_redirect_conflicts(app), *_account_conflicts(app)]


def _redirect_conflicts(app: Mapping[str, Any]) -> list[str]:
    private = [url for url in app["redirect_urls"] if not is_web_url(url)]
    if private and app.get("client_type") != "public":
        return [
            f"redirect_urls: {private[0]!r} has a private-use scheme, which only a public app "
            "can have; set client_type to public"
        ]
    return []


def _account_conflicts(app: Mapping[str, Any]) -> list[str]:
    app_id, pattern = app["provider_app_id"], PROVIDER_APP_ID_PATTERNS.get(app["provider"])
    if app_id and pattern and not re.fullmatch(pattern, app_id):
        return [
            f"provider_app_id: {app_id!r} is not an AppID: copy it from WeChat's console, `wx` "
            "and 16 letters or digits"
        ]
    return []


def missing_account_field(app: AppRecord) -> str | None:
    """Return the field without which the provider draws no codes for the app, or None.

    An app without both fields uses the account in the settings, and one with `phone_app` the
    account of that app.
    """
    if app.app.phone_app:
        return None
    has_id, has_secret = bool(app.app.provider_app_id), app.has_provider_secret
    if app.app.provider not in PROVIDER_APP_ID_PATTERNS or has_id == has_secret:
        return None
    return "provider_secret" if has_id else "provider_app_id"


def parse_scope(text: str, app: App) -> tuple[str, ...]:
    """Return the scopes of `text` that are known and that the app may have, in a fixed order."""
    wanted = set(text.split()) & set(app.scopes)
    return tuple(scope for scope in SCOPES if scope in wanted)
