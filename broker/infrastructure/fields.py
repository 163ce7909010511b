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
    """Return the Origin as browsers write it: lower case, no default port (RFC 6454, 6.2)."""
    parts = urlsplit(url.lower())
    default_port = {"http": ":80", "https": ":443"}.get(parts.scheme, "")
    return f"{parts.scheme}://{parts.netloc.removesuffix(default_port)}"


def parse_origin(text: str) -> str:
    """Return an Origin as browsers write it. Raises ValueError for any other text."""
    if not ORIGIN_PATTERN.fullmatch(text):
        raise ValueError(
            f"{text!r} is not an Origin: use scheme://host[:port] without a path, with one of the "
            f"schemes {', '.join(SCHEMES)}"
        )
    return normalize_origin(text)


def is_web_url(url: str) -> bool:
    """Return whether the text is an http or https URL with a host."""
    try:
        parts = split(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def check_text(value: object, longest: int) -> str:
    """Return the value. Raises ValueError unless it is 1 to `longest` printable characters."""
    if not isinstance(value, str) or not value.isprintable() or not 1 <= len(value) <= longest:
        raise ValueError(f"must be 1 to {longest} printable characters")
    return value


def check_word(value: object) -> str:
    """Return the value. Raises ValueError unless it has the form of a provider's name."""
    if not WORD_PATTERN.fullmatch(check_text(value, 32)):
        raise ValueError("must be the name of a provider: lower-case letters, digits and hyphens")
    return str(value)


def check_fields(
    fields: Mapping[str, object],
    rules: Mapping[str, Callable[[object], object]],
    wrong: Callable[[list[str]], BrokerError],
) -> dict[str, object]:
    """Return the fields as they are stored.

    wrong: the class of the error, which is raised with one line for each mistake.
    """
    values, mistakes = {}, []
    for name, value in fields.items():
        try:
            values[name] = rules[name](value)
        except KeyError:
            mistakes.append(f"{name}: unknown field")
        except ValueError as error:
            mistakes.append(f"{name}: {error}")
    if mistakes:
        raise wrong(mistakes)
    return values
