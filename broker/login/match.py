"""Matches: proofs that the person at the phone sees the browser's screen.

    number: the browser shows a number, and the person chooses it on the phone.
    code:   the phone shows digits, and the person types them in the browser.

A page that shows another browser's code can show its number as well, or ask for its digits. A
match stops pictures of codes and people who confirm without a look at the browser.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from typing import Literal

import msgspec

MatchKind = Literal["number", "code"]

MATCH_KINDS: Mapping[str, MatchKind] = {"number": "number", "code": "code"}
"""The kinds by the value of the app field `match`; `off` has none."""

CHOICES = 3
"""Numbers that the phone shows. A guess is right once in three times."""

DIGITS = 4
"""Digits of a code: three tries guess it 3 times in 10 000."""

TRIES_MAX = 3
"""Wrong codes that end a login."""

MATCH = "match"
"""The value of `can` of a phone that knows matches, and of `amr` after one."""


class Match(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The match that a login needs.

    answer: 2 digits that the browser shows, or the `DIGITS` that the phone shows; empty until
        the confirm for a code. It is in no log, push, notice or metric.
    choices: of a number; the answer is one of them.
    tries: wrong answers so far.
    """

    kind: MatchKind
    answer: str = ""
    choices: tuple[str, ...] = ()
    tries: int = 0

    def is_right(self, answer: str) -> bool:
        return bool(self.answer) and hmac.compare_digest(self.answer.encode(), answer.encode())

    @property
    def tries_left(self) -> int:
        return TRIES_MAX - self.tries


def draw_match(kind: MatchKind) -> Match:
    """Return a new match. The answer of a number is at each position equally often."""
    if kind == "code":
        return Match(kind=kind)
    numbers = secrets.SystemRandom().sample(range(100), CHOICES)
    choices = tuple(f"{number:02}" for number in numbers)
    return Match(kind=kind, answer=secrets.choice(choices), choices=choices)


def draw_digits() -> str:
    return f"{secrets.randbelow(10**DIGITS):0{DIGITS}}"
