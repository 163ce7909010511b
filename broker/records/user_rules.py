"""What may stand in a user and in an identity, whether by command or over the admin port."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from broker.records.rules import text, word

USER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+:-]{0,63}")
"""A site's own ids and mail addresses fit."""

ID_MAX = 128
"""Characters of an openid or unionid (WeChat's have 28), and of a provider's name for an app."""

INVITATION_MAX = 30 * 86_400
"""Seconds that an invitation may be good for."""

PAGE = 100
"""Users on a page, where no number is said."""

INVITATION_LIFETIME = 86_400
"""Seconds for which an invitation is good, where no number is said."""

Rule = Callable[[object], object]


def _user_id(value: object) -> str:
    if not USER_ID.fullmatch(text(value, 64)):
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


USER: Mapping[str, Rule] = {
    "id": _user_id,
    "name": lambda value: None if value is None else text(value, 100),
    "blocked": _flag,
}

IDENTITY: Mapping[str, Rule] = {
    "provider": word,
    "provider_app_id": lambda value: "" if value == "" else text(value, ID_MAX),
    "openid": lambda value: text(value, ID_MAX),
    "unionid": lambda value: None if value is None else text(value, ID_MAX),
}

INVITATION: Mapping[str, Rule] = {"expires_in": _seconds}
