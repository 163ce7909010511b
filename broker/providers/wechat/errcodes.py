"""What comes of a request to WeChat, by its errcode or by a word of ours: whose it is to cure.

WeChat answers failures with status 200 and `{errcode, errmsg}`.  The codes are those of
its pages on stable_token, getwxacodeunlimit and jscode2session, and of its list for all.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from enum import Enum, auto
from typing import NamedTuple


class ErrorKind(Enum):
    """Who can do something about it."""

    TIME = auto()  # nobody: it passes
    PAUSE = auto()  # nobody: WeChat is not asked for some seconds
    QUOTA = auto()  # nobody before the next minute
    TOKEN = auto()  # the broker, with the latest access token
    PHONE = auto()  # the phone, with a fresh js_code
    BLOCKED = auto()  # WeChat turns the person away
    TOO_OFTEN = auto()  # the person, in a minute
    OPERATOR = auto()  # the operator


USER_KINDS = frozenset({ErrorKind.PHONE, ErrorKind.BLOCKED, ErrorKind.TOO_OFTEN})
"""What says nothing of how WeChat is: it works, and somebody is turned away."""

TRANSIENT_KINDS = frozenset({ErrorKind.TIME, ErrorKind.PAUSE, ErrorKind.TOKEN})
"""What is over in seconds, with nobody doing anything."""

LOG_LEVELS: Mapping[ErrorKind, int] = {
    **dict.fromkeys(USER_KINDS, logging.INFO),
    ErrorKind.OPERATOR: logging.ERROR,
}
"""How loud the log is about it; a warning where no row says more."""

RETRY_AFTER: Mapping[ErrorKind, int] = {
    ErrorKind.TIME: 2,
    ErrorKind.TOKEN: 2,
    ErrorKind.PAUSE: 5,
    ErrorKind.QUOTA: 60,
    ErrorKind.TOO_OFTEN: 60,
    ErrorKind.OPERATOR: 30,
}
"""Seconds after which it is worth while to ask again."""


class ErrorMeaning(NamedTuple):
    """cure: what the operator should know or do, as half a sentence."""

    kind: ErrorKind
    advice: str


STALE = ErrorMeaning(
    ErrorKind.TOKEN, "the access token was no longer good; a fresh one is fetched, once"
)

SECRET = ErrorMeaning(
    ErrorKind.OPERATOR,
    "the secret is not this appid's: copy it again, or reset it in WeChat's console",
)

ADDRESS = ErrorMeaning(
    ErrorKind.OPERATOR, "put the broker's address on the IP allow list in WeChat's console"
)

MISTAKE = ErrorMeaning(ErrorKind.OPERATOR, "the broker asked wrongly: please report it")

MEANINGS: Mapping[str, ErrorMeaning] = {
    # Words of ours, where there was no errcode.
    "unreachable": ErrorMeaning(
        ErrorKind.TIME, "no connection: look at DNS, firewall and the API's address"
    ),
    "timeout": ErrorMeaning(ErrorKind.TIME, "no answer in time"),
    "unreadable": ErrorMeaning(
        ErrorKind.TIME, "the answer was none of WeChat's: a proxy or gateway between"
    ),
    "paused": ErrorMeaning(
        ErrorKind.PAUSE, "WeChat failed several times in a row and is left alone a while"
    ),
    "limited": ErrorMeaning(ErrorKind.PAUSE, "this process draws as many codes as it may"),
    "too-large": ErrorMeaning(
        ErrorKind.OPERATOR, "the picture is too large to be shown: ask for less width"
    ),
    # WeChat's.
    "-1": ErrorMeaning(ErrorKind.TIME, "WeChat is busy"),
    "40001": STALE,
    "40014": STALE,
    "42001": STALE,
    "40002": MISTAKE,
    "40013": ErrorMeaning(
        ErrorKind.OPERATOR, "the appid is no mini program's: look for a slip in it"
    ),
    "40029": ErrorMeaning(
        ErrorKind.PHONE, "wrong or older than 5 minutes; all of them: another mini program's"
    ),
    "40097": ErrorMeaning(ErrorKind.OPERATOR, "look at page, env_version and width"),
    "40125": SECRET,
    "40129": MISTAKE,
    "40163": ErrorMeaning(ErrorKind.PHONE, "the js_code was used before"),
    "40164": ADDRESS,
    "40169": MISTAKE,
    "40226": ErrorMeaning(ErrorKind.BLOCKED, "WeChat takes this person for a risk"),
    "40243": ErrorMeaning(
        ErrorKind.OPERATOR, "the secret is frozen: unfreeze it in WeChat's console"
    ),
    "41001": MISTAKE,
    "41002": MISTAKE,
    "41004": MISTAKE,
    "41008": MISTAKE,
    "41030": ErrorMeaning(
        ErrorKind.OPERATOR,
        "the released mini program has no such page: release it, correct the page, or turn "
        "check_path off",
    ),
    "45009": ErrorMeaning(
        ErrorKind.QUOTA, "more than WeChat allows: 5 000 codes a minute over all instances"
    ),
    "45011": ErrorMeaning(ErrorKind.QUOTA, "more than WeChat allows in a minute"),
    "47001": MISTAKE,
    "48001": ErrorMeaning(
        ErrorKind.OPERATOR, "this kind of account may not: use a mini program's appid"
    ),
    "50002": ErrorMeaning(ErrorKind.OPERATOR, "the account is limited: look into WeChat's console"),
    "50004": ErrorMeaning(
        ErrorKind.OPERATOR, "the account may not use tokens: look into WeChat's console"
    ),
    "61004": ADDRESS,
}

ELSEWHERE: Mapping[tuple[str, str], ErrorMeaning] = {
    ("stable_token", "40001"): SECRET,
    ("jscode2session", "45011"): ErrorMeaning(
        ErrorKind.TOO_OFTEN, "100 logins of one person in a minute"
    ),
}
"""What means something else at one API."""

UNKNOWN = ErrorMeaning(
    ErrorKind.OPERATOR, "look the errcode up in WeChat's list, or its rid in the console"
)


def lookup_error(api: str, outcome: str) -> ErrorMeaning:
    return ELSEWHERE.get((api, outcome)) or MEANINGS.get(outcome, UNKNOWN)
