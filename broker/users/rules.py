"""What may stand in a user and in an identity, whether by command or over the admin port."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from broker.infrastructure.fields import check_text, check_word

USER_ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+:-]{0,63}")
"""A site's own ids and mail addresses fit."""

ID_MAX = 128
"""Characters of an openid or unionid (WeChat's have 28), and of a provider's name for an app."""

INVITATION_MAX = 30 * 86_400
"""Seconds that an invitation may be good for."""

PAGE_SIZE = 100
"""Users on a page, where no number is said."""

INVITATION_LIFETIME = 86_400
"""Seconds for which an invitation is good, where no number is said."""

FieldRule = Callable[[object], object]


def _user_id(value: object) -> str:
    if not USER_ID_PATTERN.fullmatch(check_text(value, 64)):
        raise ValueError("want letters, digits, and after the first also . _ @ + : -")
    return str(value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("want true or false")
    return value


def _seconds(value: object) -> int:
    if type(value) is not int or not 1 <= value <= INVITATION_MAX:
        raise ValueError(f"want whole seconds, 1 to {INVITATION_MAX}")
    return value


USER_RULES: Mapping[str, FieldRule] = {
    "id": _user_id,
    "name": lambda value: None if value is None else check_text(value, 100),
    "blocked": _flag,
}

IDENTITY_RULES: Mapping[str, FieldRule] = {
    "provider": check_word,
    "provider_app_id": lambda value: "" if value == "" else check_text(value, ID_MAX),
    "openid": lambda value: check_text(value, ID_MAX),
    "unionid": lambda value: None if value is None else check_text(value, ID_MAX),
}

INVITATION_RULES: Mapping[str, FieldRule] = {"expires_in": _seconds}
