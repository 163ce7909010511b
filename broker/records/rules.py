"""What may stand in an app, wherever it comes from: settings, command or admin port."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from broker.errors import BrokerError
from broker.urls import split

SCHEMES = ("http", "https", "app", "capacitor", "ionic", "tauri")
"""Schemes of Origins: web pages, and web views in Electron, Capacitor, Ionic and Tauri apps."""

ORIGIN = re.compile(rf"({'|'.join(SCHEMES)})://(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:\d{{1,5}})?")
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
WORD = re.compile(r"[a-z0-9-]{1,32}")
CODE_SOURCES = ("live", "pool")

URL_MAX = 500
SECRET_MAX = 512
LIST_MAX = 100
LIFETIME_MAX = 3600


def origin(url: str) -> str:
    """As a browser says it: in lower case, without the scheme's own port (RFC 6454, 6.2)."""
    parts = urlsplit(url.lower())
    own_port = {"http": ":80", "https": ":443"}.get(parts.scheme, "")
    return f"{parts.scheme}://{parts.netloc.removesuffix(own_port)}"


def exact_origin(text: str) -> str:
    """An Origin, as a browser says it; raises ValueError for anything more or less."""
    if not ORIGIN.fullmatch(text):
        raise ValueError(
            f"{text!r} is not an Origin: use scheme://host[:port] without a path, with one of the "
            f"schemes {', '.join(SCHEMES)}"
        )
    return origin(text)


def is_web(url: str) -> bool:
    try:
        parts = split(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def text(value: object, longest: int) -> str:
    if not isinstance(value, str) or not value.isprintable() or not 1 <= len(value) <= longest:
        raise ValueError(f"want 1 to {longest} characters that can be printed")
    return value


def _id(value: object) -> str:
    if not ID.fullmatch(text(value, 64)):
        raise ValueError("want letters, digits, and after the first also . _ -")
    return str(value)


def word(value: object) -> str:
    if not WORD.fullmatch(text(value, 32)):
        raise ValueError("want a provider's name")
    return str(value)


def _url(value: object) -> str:
    url = text(value, URL_MAX)
    if not is_web(url) or urlsplit(url).fragment:
        raise ValueError(f"{url!r} is no http or https URL without a fragment")
    return url


def _list(value: object, one: Callable[[str], str]) -> list[str]:
    if not isinstance(value, list | tuple) or len(value) > LIST_MAX:
        raise ValueError(f"want a list of at most {LIST_MAX}")
    return sorted({one(text(url, URL_MAX)) for url in value})


def _code_source(value: object) -> str:
    if value not in CODE_SOURCES:
        raise ValueError(f"want one of {', '.join(CODE_SOURCES)}")
    return str(value)


def _lifetime(value: object) -> int | None:
    if value is None:
        return None
    if type(value) is not int or not 1 <= value <= LIFETIME_MAX:
        raise ValueError(f"want whole seconds, 1 to {LIFETIME_MAX}, or nothing")
    return value


def _secret(value: object) -> str | None:
    return None if value is None else text(value, SECRET_MAX)


FIELDS: Mapping[str, Callable[[object], object]] = {
    "name": lambda value: text(value, 100),
    "provider": word,
    "provider_app_id": lambda value: "" if value == "" else text(value, 128),
    "provider_secret": _secret,
    "origins": lambda value: _list(value, exact_origin),
    "redirect_urls": lambda value: _list(value, _url),
    "register_url": lambda value: None if value is None else _url(value),
    "code_source": _code_source,
    "login_lifetime": _lifetime,
}
"""What an operator may say of an app, each with what it must be."""

RULES: Mapping[str, Callable[[object], object]] = {"id": _id, **FIELDS}


def checked(
    fields: Mapping[str, object],
    rules: Mapping[str, Callable[[object], object]],
    wrong: Callable[[list[str]], BrokerError],
) -> dict[str, object]:
    """Return the fields as they are stored.  Raises `wrong` with every mistake."""
    values, mistakes = {}, []
    for name, value in fields.items():
        try:
            values[name] = rules[name](value)
        except KeyError:
            mistakes.append(f"{name}: there is no such field")
        except ValueError as error:
            mistakes.append(f"{name}: {error}")
    if mistakes:
        raise wrong(mistakes)
    return values
