"""Parses a User-Agent header into names that a person knows: "Chrome 126 on Windows".

A browser may send any header, so the result is not verified. If the browser is
unknown, the caller shows the whole header.
"""

import re
from typing import NamedTuple

# Most browsers also name the browsers below them, so the first match counts.
PROGRAMS = (
    ("WeChat", r"MicroMessenger/(\d+)"),
    ("Edge", r"Edg(?:e|A|iOS)?/(\d+)"),
    ("Opera", r"OPR/(\d+)"),
    ("Samsung Internet", r"SamsungBrowser/(\d+)"),
    ("Firefox", r"(?:Firefox|FxiOS)/(\d+)"),
    ("Chrome", r"(?:HeadlessChrome|Chrome|CriOS)/(\d+)"),
    ("Safari", r"Version/(\d+)[\d.]* (?:Mobile/\w+ )?Safari/"),
    ("curl", r"^curl/(\d+)"),
    ("Python", r"^(?:Python|python-requests)/(\d+)"),
)
SYSTEMS = (
    ("Android", r"Android"),
    ("iPhone", r"iPhone"),
    ("iPad", r"iPad"),
    ("Windows", r"Windows NT"),
    ("macOS", r"Macintosh"),
    ("ChromeOS", r"CrOS"),
    ("Linux", r"Linux"),
)


class UserAgent(NamedTuple):
    """program: name and major version, such as "Chrome 126". None if unknown."""

    program: str | None
    system: str | None

    def __str__(self) -> str:
        return " on ".join(part for part in self if part) or "an unknown browser"


def parse(user_agent: str) -> UserAgent:
    return UserAgent(_program(user_agent), _system(user_agent))


def _program(user_agent: str) -> str | None:
    for name, pattern in PROGRAMS:
        if match := re.search(pattern, user_agent):
            return f"{name} {match[1][:4]}"
    return None


def _system(user_agent: str) -> str | None:
    return next((name for name, pattern in SYSTEMS if re.search(pattern, user_agent)), None)
