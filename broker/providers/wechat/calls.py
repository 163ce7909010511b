"""The three calls: where each goes, when it may be repeated, how its answer is read.

A reader takes what came and gives what was asked for, or raises `Failed`.  WeChat says
`application/json` and `text/plain` of its JSON, so that is told by its first character;
a picture must be called one, and be one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from broker.providers import Picture, Sealed

T = TypeVar("T")

ID_MAX = 128
"""Characters of an openid or unionid; both have 28."""

SIGNATURES: Mapping[bytes, str] = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png"}
"""How a picture begins, and its media type."""


class Answer(NamedTuple):
    """What came, whole.  media_type: as it was called."""

    media_type: str
    content: bytes

    def __str__(self) -> str:
        return f"{len(self.content)} bytes of {self.media_type}"


class Failed(Exception):
    """No answer to what was asked.

    outcome: WeChat's errcode, or a word of ours; see errcodes.py.
    said: WeChat's errmsg, or what came instead of an answer.
    """

    def __init__(self, outcome: str, said: str) -> None:
        super().__init__(outcome)
        self.outcome = outcome
        self.said = said


class Fetched(NamedTuple):
    """An access token and the seconds for which it is good yet."""

    access_token: str
    expires_in: float


class Person(NamedTuple):
    openid: str
    unionid: str | None
    session_key: Sealed


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """name: the last part of its path, as WeChat's pages call it.

    repeats: outcomes after which asking again can do no harm.
    """

    name: str
    method: str
    path: str
    repeats: frozenset[str]
    read: Callable[[Answer], T]


def read_token(answer: Answer) -> Fetched:
    fields = _fields(answer)
    expires_in = fields.get("expires_in")
    if not isinstance(expires_in, int | float) or expires_in <= 0:
        raise Failed("unreadable", "no expires_in")
    return Fetched(_text(fields, "access_token", 512), expires_in)


def read_picture(answer: Answer) -> Picture:
    for signature, media_type in SIGNATURES.items():
        if answer.content.startswith(signature) and answer.media_type.startswith("image/"):
            return Picture(answer.content, media_type)
    _fields(answer)
    raise Failed("unreadable", f"no picture: {answer}")


def read_person(answer: Answer) -> Person:
    fields = _fields(answer)
    return Person(
        _text(fields, "openid", ID_MAX),
        _text(fields, "unionid", ID_MAX) if fields.get("unionid") else None,
        Sealed(_text(fields, "session_key", ID_MAX)),
    )


def _fields(answer: Answer) -> Mapping[str, object]:
    """The JSON object that came; raises Failed for an errcode in it."""
    try:
        fields = json.loads(answer.content)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise Failed("unreadable", f"no JSON: {answer}")
    errcode = fields.get("errcode", 0)
    if errcode != 0:
        raise Failed(str(errcode)[:16], str(fields.get("errmsg", "")))
    return fields


def _text(fields: Mapping[str, object], name: str, longest: int) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= longest or not value.isprintable():
        raise Failed("unreadable", f"no {name}")
    return value


WHENEVER = frozenset({"-1", "timeout", "unreachable", "unreadable"})
"""The same token, and another picture of the same code: nothing is used up but quota."""

UNTAKEN = frozenset({"-1", "unreachable"})
"""A js_code is good once: where WeChat may have taken it, it is asked for no second time."""

STABLE_TOKEN = Call("stable_token", "POST", "/cgi-bin/stable_token", WHENEVER, read_token)
GETWXACODEUNLIMIT = Call(
    "getwxacodeunlimit", "POST", "/wxa/getwxacodeunlimit", WHENEVER, read_picture
)
JSCODE2SESSION = Call("jscode2session", "GET", "/sns/jscode2session", UNTAKEN, read_person)
CALLS = (STABLE_TOKEN, GETWXACODEUNLIMIT, JSCODE2SESSION)
