"""Rules for the fields of an app, from the command line and from the admin port."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from broker.infrastructure.fields import check_text, check_word, is_web_url, parse_origin

ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

CODE_SOURCES = ("live", "pool")

URL_MAX = 500

SECRET_MAX = 512

LIST_MAX = 100

LIFETIME_MAX = 3600


def _id(value: object) -> str:
    if not ID_PATTERN.fullmatch(check_text(value, 64)):
        raise ValueError("must be letters, digits and `._-`, and begin with a letter or digit")
    return str(value)


def _url(value: object) -> str:
    url = check_text(value, URL_MAX)
    if not is_web_url(url) or urlsplit(url).fragment:
        raise ValueError(f"{url!r} is not an http or https URL without a fragment")
    return url


def _list(value: object, check: Callable[[str], str]) -> list[str]:
    if not isinstance(value, list | tuple) or len(value) > LIST_MAX:
        raise ValueError(f"must be a list of at most {LIST_MAX} URLs")
    return sorted({check(check_text(text, URL_MAX)) for text in value})


def _code_source(value: object) -> str:
    if value not in CODE_SOURCES:
        raise ValueError(f"must be one of {', '.join(CODE_SOURCES)}")
    return str(value)


def _lifetime(value: object) -> int | None:
    if value is None:
        return None
    if type(value) is not int or not 1 <= value <= LIFETIME_MAX:
        raise ValueError(f"must be whole seconds from 1 to {LIFETIME_MAX}, or empty")
    return value


def _secret(value: object) -> str | None:
    return None if value is None else check_text(value, SECRET_MAX)


FIELD_RULES: Mapping[str, Callable[[object], object]] = {
    "id": _id,
    "name": lambda value: check_text(value, 100),
    "provider": check_word,
    "provider_app_id": lambda value: "" if value == "" else check_text(value, 128),
    "provider_secret": _secret,
    "origins": lambda value: _list(value, parse_origin),
    "redirect_urls": lambda value: _list(value, _url),
    "register_url": lambda value: None if value is None else _url(value),
    "code_source": _code_source,
    "login_lifetime": _lifetime,
}
"""Checks of the fields that an operator sets: each returns the stored value."""
