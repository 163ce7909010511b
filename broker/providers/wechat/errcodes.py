"""The outcomes of requests to WeChat: WeChat's errcodes, and words of the broker for the rest.

WeChat reports a failure with status 200 and `{errcode, errmsg}`. The errcodes are those of
its pages on the four APIs, and of its global list.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from enum import Enum, auto
from typing import NamedTuple


class ErrorKind(Enum):
    """Kinds of failures, by the event that ends them."""

    TIME = auto()  # it ends by itself
    PAUSE = auto()  # the broker sends no requests for some seconds
    QUOTA = auto()  # the next minute
    TOKEN = auto()  # a new access token, which the broker fetches
    PHONE = auto()  # a new js_code from the phone
    PHONE_NUMBER = auto()  # a new code for the phone number from the phone
    BLOCKED = auto()  # nothing: WeChat rejects the user
    TOO_OFTEN = auto()  # a minute without logins of the user
    OPERATOR = auto()  # the operator


USER_KINDS = frozenset(
    {ErrorKind.PHONE, ErrorKind.PHONE_NUMBER, ErrorKind.BLOCKED, ErrorKind.TOO_OFTEN}
)
"""WeChat works and rejects one user."""

TRANSIENT_KINDS = frozenset({ErrorKind.TIME, ErrorKind.PAUSE, ErrorKind.TOKEN})
"""The failure ends within seconds without any action."""

LOG_LEVELS: Mapping[ErrorKind, int] = {
    **dict.fromkeys(USER_KINDS, logging.INFO),
    ErrorKind.OPERATOR: logging.ERROR,
}
"""Log levels; WARNING for every other kind."""

RETRY_AFTER: Mapping[ErrorKind, int] = {
    ErrorKind.TIME: 2,
    ErrorKind.TOKEN: 2,
    ErrorKind.PAUSE: 5,
    ErrorKind.QUOTA: 60,
    ErrorKind.TOO_OFTEN: 60,
    ErrorKind.OPERATOR: 30,
}
"""Seconds after which a browser or phone may try again."""


class ErrorMeaning(NamedTuple):
    """advice: the cause, and what the operator can do. Lower case, without a full stop."""

    kind: ErrorKind
    advice: str


STALE_TOKEN = ErrorMeaning(
    ErrorKind.TOKEN, "the access token is no longer valid; the broker fetches a new one"
)

WRONG_SECRET = ErrorMeaning(
    ErrorKind.OPERATOR,
    "the secret does not belong to this appid: copy it again, or reset it in WeChat's console",
)

UNKNOWN_ADDRESS = ErrorMeaning(
    ErrorKind.OPERATOR, "add the broker's IP address to the IP allow list in WeChat's console"
)

BROKER_BUG = ErrorMeaning(
    ErrorKind.OPERATOR, "the broker sent an invalid request: please report it"
)

MEANINGS: Mapping[str, ErrorMeaning] = {
    # Words of the broker.
    "unreachable": ErrorMeaning(
        ErrorKind.TIME, "no connection: check DNS, the firewall and the API's URL"
    ),
    "timeout": ErrorMeaning(ErrorKind.TIME, "no answer in time"),
    "unreadable": ErrorMeaning(
        ErrorKind.TIME, "the answer is not WeChat's: check for a proxy or gateway in between"
    ),
    "paused": ErrorMeaning(
        ErrorKind.PAUSE, "consecutive requests failed; the circuit breaker is open for some seconds"
    ),
    "limited": ErrorMeaning(
        ErrorKind.PAUSE, "this process has reached its limit of codes per minute"
    ),
    "too-large": ErrorMeaning(
        ErrorKind.OPERATOR, "the picture is larger than 180 KB: reduce the width"
    ),
    # WeChat's errcodes.
    "-1": ErrorMeaning(ErrorKind.TIME, "WeChat is busy"),
    "40001": STALE_TOKEN,
    "40014": STALE_TOKEN,
    "42001": STALE_TOKEN,
    "40002": BROKER_BUG,
    "40013": ErrorMeaning(
        ErrorKind.OPERATOR, "the appid is not that of a mini program: check its spelling"
    ),
    "40029": ErrorMeaning(
        ErrorKind.PHONE,
        "the js_code is wrong or older than 5 minutes; if all are refused, they are of another "
        "mini program",
    ),
    "40097": ErrorMeaning(ErrorKind.OPERATOR, "check page, env_version and width"),
    "40125": WRONG_SECRET,
    "40129": BROKER_BUG,
    "40163": ErrorMeaning(ErrorKind.PHONE, "the js_code was used before"),
    "40164": UNKNOWN_ADDRESS,
    "40169": BROKER_BUG,
    "40226": ErrorMeaning(ErrorKind.BLOCKED, "WeChat considers this user a risk"),
    "40243": ErrorMeaning(
        ErrorKind.OPERATOR, "the secret is frozen: unfreeze it in WeChat's console"
    ),
    "41001": BROKER_BUG,
    "41002": BROKER_BUG,
    "41004": BROKER_BUG,
    "41008": BROKER_BUG,
    "41030": ErrorMeaning(
        ErrorKind.OPERATOR,
        "the released mini program has no such page: release it, correct the page, or turn "
        "check_path off",
    ),
    "45009": ErrorMeaning(
        ErrorKind.QUOTA, "reached WeChat's limit of 5 000 codes a minute for all instances"
    ),
    "45011": ErrorMeaning(ErrorKind.QUOTA, "WeChat's limit per minute"),
    "47001": BROKER_BUG,
    "48001": ErrorMeaning(
        ErrorKind.OPERATOR, "this type of account has no permission: use a mini program's appid"
    ),
    "50002": ErrorMeaning(ErrorKind.OPERATOR, "the account is restricted: check WeChat's console"),
    "50004": ErrorMeaning(
        ErrorKind.OPERATOR, "the account may not fetch access tokens: check WeChat's console"
    ),
    "61004": UNKNOWN_ADDRESS,
}

API_MEANINGS: Mapping[tuple[str, str], ErrorMeaning] = {
    ("stable_token", "40001"): WRONG_SECRET,
    ("jscode2session", "45011"): ErrorMeaning(
        ErrorKind.TOO_OFTEN, "WeChat's limit of 100 logins of one user a minute"
    ),
    ("getuserphonenumber", "40013"): ErrorMeaning(
        ErrorKind.PHONE_NUMBER, "the code for the phone number is of another mini program"
    ),
    ("getuserphonenumber", "40029"): ErrorMeaning(
        ErrorKind.PHONE_NUMBER,
        "the code for the phone number is wrong, used or older than 5 minutes",
    ),
    ("getuserphonenumber", "40163"): ErrorMeaning(
        ErrorKind.PHONE_NUMBER, "the code for the phone number was used before"
    ),
    ("getuserphonenumber", "48001"): ErrorMeaning(
        ErrorKind.OPERATOR, "the mini program may not read phone numbers: check WeChat's console"
    ),
}
"""Errcodes that have another meaning at one API."""

UNKNOWN = ErrorMeaning(
    ErrorKind.OPERATOR, "look up the errcode in WeChat's list, or its rid in WeChat's console"
)


def lookup_error(api: str, outcome: str) -> ErrorMeaning:
    return API_MEANINGS.get((api, outcome)) or MEANINGS.get(outcome, UNKNOWN)
