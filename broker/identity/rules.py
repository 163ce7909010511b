"""Rules for the claims of a user, from a webhook or from an operator."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from broker.identity.model import GROUP_NAME_MAX, GROUPS_MAX
from broker.infrastructure.fields import check_text, is_web_url

EMAIL_PATTERN = re.compile(r"[^@\s]{1,64}@[A-Za-z0-9.-]{1,253}")

PHONE_NUMBER_PATTERN = re.compile(r"\+[0-9]{4,15}")
"""E.164, which OpenID Connect Core, section 5.1, recommends."""

LOCALE_PATTERN = re.compile(r"[A-Za-z0-9-]{2,35}")

TEXT_MAX, URL_MAX = 100, 500


def _matching(pattern: re.Pattern[str], example: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise ValueError(f"must have a form such as {example}")
        return value

    return check


def _url(value: object) -> str:
    url = check_text(value, URL_MAX)
    if not is_web_url(url):
        raise ValueError("must be an http or https URL")
    return url


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _groups(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or len(value) > GROUPS_MAX:
        raise ValueError(f"must be a list of at most {GROUPS_MAX} names")
    return tuple(sorted({check_text(name, GROUP_NAME_MAX) for name in value}))


def _text(value: object) -> str:
    return check_text(value, TEXT_MAX)


CLAIM_RULES: Mapping[str, Callable[[object], Any]] = {
    "name": _text,
    "nickname": _text,
    "preferred_username": _text,
    "picture": _url,
    "locale": _matching(LOCALE_PATTERN, "zh-CN"),
    "zoneinfo": _text,
    "email": _matching(EMAIL_PATTERN, "alice@shop.example"),
    "email_verified": _flag,
    "phone_number": _matching(PHONE_NUMBER_PATTERN, "+8613800138000"),
    "phone_number_verified": _flag,
    "groups": _groups,
}
"""Checks of the claims of a `UserProfile`: each returns the value or raises ValueError."""


def parse_claims(fields: Mapping[str, object]) -> tuple[dict[str, Any], list[str]]:
    """Return the valid claims of `fields`, and the names of the invalid ones.

    A missing claim and null are the same. Other fields are ignored.
    """
    claims, invalid = {}, []
    for name, check in CLAIM_RULES.items():
        if (value := fields.get(name)) is None:
            continue
        try:
            claims[name] = check(value)
        except ValueError:
            invalid.append(name)
    return claims, invalid
