"""What every phone and every browser was told, and when: from it each fault is judged.

A login whose phone was told *confirmed* is owed a token.  It is lost when the
token is not there `TOTAL_TIMEOUT` seconds after the fault's end, or after the phone
was told, whichever is later.
"""

from __future__ import annotations

import json
import math
import time
from base64 import urlsafe_b64decode
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

WITHIN = 5.0
"""Seconds in which a token that is owed must have come."""


@dataclass(slots=True)
class Entry:
    """What became of one code.

    Times are of `time.monotonic`, None where it has not happened.
    confirmed_at: the phone was told so.  told_at: the browser was.
    over_at: the browser was told that the code is of no more use.
    tokens: the `jti` of each token that was handed out, in the order they came.
    """

    began_at: float
    confirmed_at: float | None = None
    told_at: float | None = None
    over_at: float | None = None
    token_at: float | None = None
    tokens: list[str] = field(default_factory=list)


class Row(NamedTuple):
    """One fault in the table; times in seconds."""

    fault: str
    before: int
    during: int
    after: int
    lost: int
    double: int
    slowest_token: float
    slowest_live: float

    def cells(self) -> list[str]:
        *counts, token, live = self
        return [*map(str, counts), f"{token:.2f}", f"{live:.2f}"]


class Ledger:
    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.refusals: Counter[str] = Counter()
        self.began_at = self.ended_at = math.inf

    def fault_begins(self) -> None:
        self.began_at = time.monotonic()

    def fault_ends(self) -> None:
        self.ended_at = time.monotonic()

    def begun(self, login_id: str) -> None:
        self.entries[login_id] = Entry(time.monotonic())

    def confirmed(self, login_id: str) -> None:
        self.entries[login_id].confirmed_at = time.monotonic()

    def told(self, login_id: str) -> None:
        entry = self.entries[login_id]
        entry.told_at = entry.told_at or time.monotonic()

    def over(self, login_id: str) -> None:
        self.entries[login_id].over_at = time.monotonic()

    def refused(self, act: str, word: str) -> None:
        self.refusals[f"{act}: {word}"] += 1

    def token(self, login_id: str, token: str) -> None:
        entry = self.entries[login_id]
        entry.token_at = entry.token_at or time.monotonic()
        entry.tokens.append(claims(token)["jti"])

    def lost(self) -> list[str]:
        """The logins that are owed a token and did not get it in time."""
        return [
            login_id
            for login_id, entry in self.entries.items()
            if entry.confirmed_at is not None and self._late(entry) > WITHIN
        ]

    def waiting_then(self) -> list[Entry]:
        """The logins that had a code and no token yet when the fault struck."""
        return [
            entry
            for entry in self.entries.values()
            if entry.began_at < self.began_at < (entry.token_at or math.inf)
        ]

    def double(self) -> list[str]:
        """The logins that two different tokens came of."""
        return [name for name, entry in self.entries.items() if len(set(entry.tokens)) > 1]

    def row(self, fault: str, slowest_live: float) -> Row:
        told = [e.confirmed_at for e in self.entries.values() if e.confirmed_at is not None]
        before = sum(at < self.began_at for at in told)
        after = sum(at > self.ended_at for at in told)
        return Row(
            fault=fault,
            before=before,
            during=len(told) - before - after,
            after=after,
            lost=len(self.lost()),
            double=len(self.double()),
            slowest_token=self._slowest_token(),
            slowest_live=slowest_live,
        )

    def _slowest_token(self) -> float:
        """Of the tokens that came after the fault's end."""
        return max(
            (
                self._late(entry)
                for entry in self.entries.values()
                if entry.confirmed_at is not None and (entry.token_at or 0) > self.ended_at
            ),
            default=0.0,
        )

    def _late(self, entry: Entry) -> float:
        """Seconds that the token took from when it could be expected; endless if it never came."""
        if entry.token_at is None:
            return math.inf
        assert entry.confirmed_at is not None
        return entry.token_at - max(entry.confirmed_at, self.ended_at)


def claims(token: str) -> dict[str, str]:
    """What a token says; the signature is not what is looked at here."""
    body = token.split(".")[1]
    said: dict[str, str] = json.loads(urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return said
