"""Rules for the fields of users and identities, from the command line and the admin port."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from broker.identity.rules import CLAIM_RULES
from broker.infrastructure.fields import check_text, check_word

USER_ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+:-]{0,63}")
"""Allows a site's ids and mail addresses."""

ID_MAX = 128
"""Characters of an openid or unionid (WeChat's have 28), and of a provider's name for an app."""

INVITATION_MAX = 30 * 86_400
"""Seconds: the longest lifetime of an invitation."""

PAGE_SIZE = 100
"""Default number of users on a page."""

INVITATION_LIFETIME = 86_400
"""Seconds: the default lifetime of an invitation."""

FieldRule = Callable[[object], object]


def _user_id(value: object) -> str:
    if not USER_ID_PATTERN.fullmatch(check_text(value, 64)):
        raise ValueError("must be letters, digits and `._@+:-`, and begin with a letter or digit")
    return str(value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _optional(check: FieldRule) -> FieldRule:
    return lambda value: None if value is None else check(value)


def _seconds(value: object) -> int:
    if type(value) is not int or not 1 <= value <= INVITATION_MAX:
        raise ValueError(f"must be whole seconds from 1 to {INVITATION_MAX}")
    return value


USER_RULES: Mapping[str, FieldRule] = {
    "id": _user_id,
    "blocked": _flag,
    **{name: _optional(check) for name, check in CLAIM_RULES.items()},
}

IDENTITY_RULES: Mapping[str, FieldRule] = {
    "provider": check_word,
    "provider_app_id": lambda value: "" if value == "" else check_text(value, ID_MAX),
    "openid": lambda value: check_text(value, ID_MAX),
    "unionid": lambda value: None if value is None else check_text(value, ID_MAX),
}

INVITATION_RULES: Mapping[str, FieldRule] = {"expires_in": _seconds}

VERIFIED_CLAIMS = {"email": "email_verified", "phone_number": "phone_number_verified"}
"""Claims, and the claim that tells whether the value was verified to belong to the user."""
