"""Checks of fields that an operator sets."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from broker.errors import BrokerError
from broker.infrastructure.urls import split

SCHEMES = ("http", "https", "app", "capacitor", "ionic", "tauri")
"""Schemes of Origins: web pages, and web views in Electron, Capacitor, Ionic and Tauri apps."""

ORIGIN_PATTERN = re.compile(rf"({'|'.join(SCHEMES)})://(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:\d{{1,5}})?")

WORD_PATTERN = re.compile(r"[a-z0-9-]{1,32}")


def normalize_origin(url: str) -> str:
    """As a browser says it: in lower case, without the scheme's own port (RFC 6454, 6.2)."""
    parts = urlsplit(url.lower())
    own_port = {"http": ":80", "https": ":443"}.get(parts.scheme, "")
    return f"{parts.scheme}://{parts.netloc.removesuffix(own_port)}"


def parse_origin(text: str) -> str:
    """An Origin, as a browser says it; raises ValueError for anything more or less."""
    if not ORIGIN_PATTERN.fullmatch(text):
        raise ValueError(
            f"{text!r} is not an Origin: use scheme://host[:port] without a path, with one of the "
            f"schemes {', '.join(SCHEMES)}"
        )
    return normalize_origin(text)


def is_web_url(url: str) -> bool:
    try:
        parts = split(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def check_text(value: object, longest: int) -> str:
    if not isinstance(value, str) or not value.isprintable() or not 1 <= len(value) <= longest:
        raise ValueError(f"want 1 to {longest} characters that can be printed")
    return value


def check_word(value: object) -> str:
    if not WORD_PATTERN.fullmatch(check_text(value, 32)):
        raise ValueError("want a provider's name")
    return str(value)


def check_fields(
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
