"""The three calls: where each goes, when it may be repeated, how its answer is read.

A reader takes what came and gives what was asked for, or raises `RequestFailed`.  WeChat says
`application/json` and `text/plain` of its JSON, so that is told by its first character;
a picture must be called one, and be one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from broker.identity.ports import CodePicture, SecretText

T = TypeVar("T")

ID_MAX = 128
"""Characters of an openid or unionid; both have 28."""

IMAGE_SIGNATURES: Mapping[bytes, str] = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG\r\n\x1a\n": "image/png",
}
"""How a picture begins, and its media type."""


class WeChatResponse(NamedTuple):
    """What came, whole.  media_type: as it was called."""

    media_type: str
    content: bytes

    def __str__(self) -> str:
        return f"{len(self.content)} bytes of {self.media_type}"


class RequestFailed(Exception):
    """No answer to what was asked.

    outcome: WeChat's errcode, or a word of ours; see errcodes.py.
    said: WeChat's errmsg, or what came instead of an answer.
    """

    def __init__(self, outcome: str, said: str) -> None:
        super().__init__(outcome)
        self.outcome = outcome
        self.said = said


class FetchedToken(NamedTuple):
    """An access token and the seconds for which it is good yet."""

    access_token: str
    expires_in: float


class WeChatUser(NamedTuple):
    openid: str
    unionid: str | None
    session_key: SecretText


@dataclass(frozen=True, slots=True)
class WeChatEndpoint(Generic[T]):
    """name: the last part of its path, as WeChat's pages call it.

    repeats: outcomes after which asking again can do no harm.
    """

    name: str
    method: str
    path: str
    repeats: frozenset[str]
    read: Callable[[WeChatResponse], T]


def parse_token(answer: WeChatResponse) -> FetchedToken:
    fields = _fields(answer)
    expires_in = fields.get("expires_in")
    if not isinstance(expires_in, int | float) or expires_in <= 0:
        raise RequestFailed("unreadable", "no expires_in")
    return FetchedToken(_text(fields, "access_token", 512), expires_in)


def parse_picture(answer: WeChatResponse) -> CodePicture:
    for signature, media_type in IMAGE_SIGNATURES.items():
        if answer.content.startswith(signature) and answer.media_type.startswith("image/"):
            return CodePicture(answer.content, media_type)
    _fields(answer)
    raise RequestFailed("unreadable", f"no picture: {answer}")


def parse_user(answer: WeChatResponse) -> WeChatUser:
    fields = _fields(answer)
    return WeChatUser(
        _text(fields, "openid", ID_MAX),
        _text(fields, "unionid", ID_MAX) if fields.get("unionid") else None,
        SecretText(_text(fields, "session_key", ID_MAX)),
    )


def _fields(answer: WeChatResponse) -> Mapping[str, object]:
    """The JSON object that came; raises RequestFailed for an errcode in it."""
    try:
        fields = json.loads(answer.content)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise RequestFailed("unreadable", f"no JSON: {answer}")
    errcode = fields.get("errcode", 0)
    if errcode != 0:
        raise RequestFailed(str(errcode)[:16], str(fields.get("errmsg", "")))
    return fields


def _text(fields: Mapping[str, object], name: str, longest: int) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= longest or not value.isprintable():
        raise RequestFailed("unreadable", f"no {name}")
    return value


ALWAYS_RETRYABLE = frozenset({"-1", "timeout", "unreachable", "unreadable"})
"""The same token, and another picture of the same code: nothing is used up but quota."""

RETRYABLE_IF_NOT_PROCESSED = frozenset({"-1", "unreachable"})
"""A js_code is good once: where WeChat may have taken it, it is asked for no second time."""

STABLE_TOKEN = WeChatEndpoint(
    "stable_token", "POST", "/cgi-bin/stable_token", ALWAYS_RETRYABLE, parse_token
)

GETWXACODEUNLIMIT = WeChatEndpoint(
    "getwxacodeunlimit", "POST", "/wxa/getwxacodeunlimit", ALWAYS_RETRYABLE, parse_picture
)

JSCODE2SESSION = WeChatEndpoint(
    "jscode2session", "GET", "/sns/jscode2session", RETRYABLE_IF_NOT_PROCESSED, parse_user
)

ENDPOINTS = (STABLE_TOKEN, GETWXACODEUNLIMIT, JSCODE2SESSION)
