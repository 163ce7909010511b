"""The four endpoints of WeChat's API: path, retryable outcomes and response parser.

A parser returns the result or raises `RequestFailed`. WeChat sends JSON as `application/json`
or as `text/plain`, so JSON is accepted with any media type. A picture needs the media type and
the first bytes of an image.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from broker.identity.ports import CodePicture, SecretText

T = TypeVar("T")

ID_MAX = 128
"""Maximum length of an openid or unionid. WeChat's have 28 characters."""

IMAGE_SIGNATURES: Mapping[bytes, str] = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG\r\n\x1a\n": "image/png",
}
"""First bytes of an image, and its media type."""


class WeChatResponse(NamedTuple):
    """A complete response with status 200."""

    media_type: str
    content: bytes

    def __str__(self) -> str:
        return f"{len(self.content)} bytes of {self.media_type}"


class RequestFailed(Exception):
    """A request without the expected result.

    outcome: WeChat's errcode, or a word of the broker, see `errcodes.py`.
    message: WeChat's errmsg, or a description of the response.
    """

    def __init__(self, outcome: str, message: str) -> None:
        super().__init__(outcome)
        self.outcome = outcome
        self.message = message


class FetchedToken(NamedTuple):
    """An access token and its remaining lifetime in seconds."""

    access_token: str
    expires_in: float


COUNTRY_CODE_PATTERN = re.compile(r"[1-9][0-9]{0,2}")

NATIONAL_NUMBER_PATTERN = re.compile(r"[0-9]{4,12}")


class WeChatUser(NamedTuple):
    openid: str
    unionid: str | None
    session_key: SecretText


@dataclass(frozen=True, slots=True)
class WeChatEndpoint(Generic[T]):
    """An endpoint of WeChat's API.

    name: the last part of its path, as in WeChat's documentation.
    retry_on: outcomes after which a retry is safe.
    parse: returns the result of a response. Raises RequestFailed.
    """

    name: str
    method: str
    path: str
    retry_on: frozenset[str]
    parse: Callable[[WeChatResponse], T]


def parse_token(response: WeChatResponse) -> FetchedToken:
    fields = _fields(response)
    expires_in = fields.get("expires_in")
    if not isinstance(expires_in, int | float) or expires_in <= 0:
        raise RequestFailed("unreadable", "no expires_in")
    return FetchedToken(_text(fields, "access_token", 512), expires_in)


def parse_picture(response: WeChatResponse) -> CodePicture:
    for signature, media_type in IMAGE_SIGNATURES.items():
        if response.content.startswith(signature) and response.media_type.startswith("image/"):
            return CodePicture(response.content, media_type)
    _fields(response)
    raise RequestFailed("unreadable", f"no picture: {response}")


def parse_user(response: WeChatResponse) -> WeChatUser:
    fields = _fields(response)
    return WeChatUser(
        _text(fields, "openid", ID_MAX),
        _text(fields, "unionid", ID_MAX) if fields.get("unionid") else None,
        SecretText(_text(fields, "session_key", ID_MAX)),
    )


def parse_phone_number(response: WeChatResponse) -> str:
    """Return the number in the form of E.164. WeChat's own form differs between countries."""
    info = _fields(response).get("phone_info")
    fields = info if isinstance(info, dict) else {}
    country, number = str(fields.get("countryCode")), str(fields.get("purePhoneNumber"))
    if not (COUNTRY_CODE_PATTERN.fullmatch(country) and NATIONAL_NUMBER_PATTERN.fullmatch(number)):
        raise RequestFailed("unreadable", "no phone number")
    return f"+{country}{number}"


def _fields(response: WeChatResponse) -> Mapping[str, object]:
    """Return the response's JSON object. Raises RequestFailed if it contains an errcode."""
    try:
        fields = json.loads(response.content)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise RequestFailed("unreadable", f"not JSON: {response}")
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
"""A retry returns the same token, or draws the same code. It costs quota only."""

RETRYABLE_IF_NOT_PROCESSED = frozenset({"-1", "unreachable"})
"""A code of a phone is valid once. If WeChat may have accepted it, there is no retry."""

STABLE_TOKEN = WeChatEndpoint(
    "stable_token", "POST", "/cgi-bin/stable_token", ALWAYS_RETRYABLE, parse_token
)

GETWXACODEUNLIMIT = WeChatEndpoint(
    "getwxacodeunlimit", "POST", "/wxa/getwxacodeunlimit", ALWAYS_RETRYABLE, parse_picture
)

JSCODE2SESSION = WeChatEndpoint(
    "jscode2session", "GET", "/sns/jscode2session", RETRYABLE_IF_NOT_PROCESSED, parse_user
)

GETUSERPHONENUMBER = WeChatEndpoint(
    "getuserphonenumber",
    "POST",
    "/wxa/business/getuserphonenumber",
    RETRYABLE_IF_NOT_PROCESSED,
    parse_phone_number,
)

ENDPOINTS = (STABLE_TOKEN, GETWXACODEUNLIMIT, JSCODE2SESSION, GETUSERPHONENUMBER)
