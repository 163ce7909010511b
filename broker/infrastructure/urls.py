"""URLs that hold passwords: a check for ambiguity, and redaction. The host of a URL.

No error of this module contains a part of a URL.
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

SERVER_PATTERN = re.compile(r"(\[[0-9A-Fa-f:.%]*\]|[^:\[\]\s]*)(:\d{0,5})?")
"""A host, or host:port."""

USERINFO_PASSWORD = re.compile(r"(://[^\s:/@]*):.*@", re.DOTALL)

OPTION_PASSWORD = re.compile(r"(password=)[^&]+", re.IGNORECASE)

PERCENT_ENCODE = (
    "cannot tell the password from the rest: percent-encode these characters in user, password "
    "and options: @ as %40, / as %2F, # as %23, ? as %3F, [ as %5B, ] as %5D, & as %26"
)

SERVER_FORM = "use host or host:port after the //, or after the @ of user:password@"


def split(url: str) -> SplitResult:
    """Return `urlsplit(url)`. Raises ValueError, also for an invalid port."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError("is not a URL, or its port is not a number from 0 to 65535") from None
    return parts


def url_host(host: str) -> str:
    """Return a host name or address as URLs contain it: IPv6 in brackets (RFC 3986)."""
    return f"[{host}]" if ":" in host else host


def check_server_url(url: str) -> None:
    """Raise ValueError if user, password, host and options of `url` are ambiguous."""
    rest = url.partition("://")[2]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    userinfo, _, servers = authority.rpartition("@")
    query = rest.partition("?")[2]
    if "#" in rest or "@" in rest[len(authority) :] or re.search(r"[@\[\]]", userinfo):
        raise ValueError(PERCENT_ENCODE)
    if any(option and "=" not in option for option in query.split("&")):
        raise ValueError(PERCENT_ENCODE)
    if any(ord(character) < ord(" ") for character in url):
        raise ValueError("contains a control character, such as a line break")
    if not all(SERVER_PATTERN.fullmatch(server) for server in servers.split(",")):
        raise ValueError(SERVER_FORM)
    try:
        urlsplit(url)
    except ValueError:  # some characters are normalised to @ or /
        raise ValueError(PERCENT_ENCODE) from None


def hide_passwords(text: str) -> str:
    """Return `text` with every password of a URL replaced."""
    return OPTION_PASSWORD.sub(r"\1[hidden]", USERINFO_PASSWORD.sub(r"\1:[hidden]@", text))


def unknown_option(name: str, url: str) -> str:
    """Return an error for an option that a driver does not know.

    An `&` in a password makes its parts look like options, so these are not repeated.
    """
    if "password" in urlsplit(url).query.lower():
        return "the query has an option that the driver does not know; write & in a password as %26"
    return f"unknown option {name!r} in the query"
