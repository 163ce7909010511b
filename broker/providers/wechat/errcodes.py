"""What comes of a request to WeChat, by its errcode or by a word of ours: whose it is to cure.

WeChat answers failures with status 200 and `{errcode, errmsg}`.  The codes are those of
its pages on stable_token, getwxacodeunlimit and jscode2session, and of its list for all.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from enum import Enum, auto
from typing import NamedTuple


class Kind(Enum):
    """Who can do something about it."""

    TIME = auto()  # nobody: it passes
    PAUSE = auto()  # nobody: WeChat is not asked for some seconds
    QUOTA = auto()  # nobody before the next minute
    TOKEN = auto()  # the broker, with the latest access token
    PHONE = auto()  # the phone, with a fresh js_code
    BLOCKED = auto()  # WeChat turns the person away
    TOO_OFTEN = auto()  # the person, in a minute
    OPERATOR = auto()  # the operator


PERSONS = frozenset({Kind.PHONE, Kind.BLOCKED, Kind.TOO_OFTEN})
"""What says nothing of how WeChat is: it works, and somebody is turned away."""

PASSING = frozenset({Kind.TIME, Kind.PAUSE, Kind.TOKEN})
"""What is over in seconds, with nobody doing anything."""

LEVELS: Mapping[Kind, int] = {
    **dict.fromkeys(PERSONS, logging.INFO),
    Kind.OPERATOR: logging.ERROR,
}
"""How loud the log is about it; a warning where no row says more."""

RETRY_AFTER: Mapping[Kind, int] = {
    Kind.TIME: 2,
    Kind.TOKEN: 2,
    Kind.PAUSE: 5,
    Kind.QUOTA: 60,
    Kind.TOO_OFTEN: 60,
    Kind.OPERATOR: 30,
}
"""Seconds after which it is worth while to ask again."""


class Meaning(NamedTuple):
    """cure: what the operator should know or do, as half a sentence."""

    kind: Kind
    cure: str


STALE = Meaning(Kind.TOKEN, "the access token was no longer good; a fresh one is fetched, once")
SECRET = Meaning(
    Kind.OPERATOR, "the secret is not this appid's: copy it again, or reset it in WeChat's console"
)
ADDRESS = Meaning(
    Kind.OPERATOR, "put the broker's address on the IP allow list in WeChat's console"
)
MISTAKE = Meaning(Kind.OPERATOR, "the broker asked wrongly: please report it")

MEANINGS: Mapping[str, Meaning] = {
    # Words of ours, where there was no errcode.
    "unreachable": Meaning(Kind.TIME, "no connection: look at DNS, firewall and the API's address"),
    "timeout": Meaning(Kind.TIME, "no answer in time"),
    "unreadable": Meaning(Kind.TIME, "the answer was none of WeChat's: a proxy or gateway between"),
    "paused": Meaning(Kind.PAUSE, "WeChat failed several times in a row and is left alone a while"),
    "limited": Meaning(Kind.PAUSE, "this process draws as many codes as it may"),
    "too-large": Meaning(Kind.OPERATOR, "the picture is too large to be shown: ask for less width"),
    # WeChat's.
    "-1": Meaning(Kind.TIME, "WeChat is busy"),
    "40001": STALE,
    "40014": STALE,
    "42001": STALE,
    "40002": MISTAKE,
    "40013": Meaning(Kind.OPERATOR, "the appid is no mini program's: look for a slip in it"),
    "40029": Meaning(
        Kind.PHONE, "wrong or older than 5 minutes; all of them: another mini program's"
    ),
    "40097": Meaning(Kind.OPERATOR, "look at page, env_version and width"),
    "40125": SECRET,
    "40129": MISTAKE,
    "40163": Meaning(Kind.PHONE, "the js_code was used before"),
    "40164": ADDRESS,
    "40169": MISTAKE,
    "40226": Meaning(Kind.BLOCKED, "WeChat takes this person for a risk"),
    "40243": Meaning(Kind.OPERATOR, "the secret is frozen: unfreeze it in WeChat's console"),
    "41001": MISTAKE,
    "41002": MISTAKE,
    "41004": MISTAKE,
    "41008": MISTAKE,
    "41030": Meaning(
        Kind.OPERATOR,
        "the released mini program has no such page: release it, correct the page, or turn "
        "check_path off",
    ),
    "45009": Meaning(
        Kind.QUOTA, "more than WeChat allows: 5 000 codes a minute over all instances"
    ),
    "45011": Meaning(Kind.QUOTA, "more than WeChat allows in a minute"),
    "47001": MISTAKE,
    "48001": Meaning(Kind.OPERATOR, "this kind of account may not: use a mini program's appid"),
    "50002": Meaning(Kind.OPERATOR, "the account is limited: look into WeChat's console"),
    "50004": Meaning(Kind.OPERATOR, "the account may not use tokens: look into WeChat's console"),
    "61004": ADDRESS,
}

ELSEWHERE: Mapping[tuple[str, str], Meaning] = {
    ("stable_token", "40001"): SECRET,
    ("jscode2session", "45011"): Meaning(Kind.TOO_OFTEN, "100 logins of one person in a minute"),
}
"""What means something else at one API."""

UNKNOWN = Meaning(Kind.OPERATOR, "look the errcode up in WeChat's list, or its rid in the console")


def meaning(api: str, outcome: str) -> Meaning:
    return ELSEWHERE.get((api, outcome)) or MEANINGS.get(outcome, UNKNOWN)
