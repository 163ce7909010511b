"""Records the answers to phones and browsers with their times, and finds lost logins.

A login is due a token when its phone has received *confirmed*. It is lost if the token does
not arrive. A measured run gives the token `TOKEN_TIMEOUT` seconds from the end of the fault or
from the confirm, whichever is later.
"""

from __future__ import annotations

import json
import math
import time
from base64 import urlsafe_b64decode
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

TOKEN_TIMEOUT = 5.0
"""Seconds in which a due token must arrive if the run is measured."""


@dataclass(slots=True)
class Entry:
    """The result of one login.

    Times are of `time.monotonic`, or None.
    asked_at: the phone sent the request whose answer was *confirmed*.
    confirmed_at: the phone received *confirmed*.
    notified_at: the browser received *confirmed*.
    ended_at: the browser learned that its code is invalid.
    tokens: the `jti` of each token, in the order of arrival.
    """

    began_at: float
    asked_at: float | None = None
    confirmed_at: float | None = None
    notified_at: float | None = None
    ended_at: float | None = None
    token_at: float | None = None
    tokens: list[str] = field(default_factory=list)

    def was_asked_after(self, at: float) -> bool:
        return self.asked_at is not None and self.asked_at > at


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
    """The entries of all logins.

    token_timeout: seconds in which a due token must arrive. The default only needs it to arrive.
    """

    def __init__(self, token_timeout: float = math.inf) -> None:
        self.entries: dict[str, Entry] = {}
        self.refusals: Counter[str] = Counter()
        self.began_at = self.ended_at = math.inf
        self._token_timeout = token_timeout

    def fault_begins(self) -> None:
        self.began_at = time.monotonic()

    def fault_ends(self) -> None:
        self.ended_at = time.monotonic()

    def add_login(self, login_id: str) -> None:
        self.entries[login_id] = Entry(time.monotonic())

    def set_confirmed(self, login_id: str, asked_at: float | None = None) -> None:
        entry = self.entries[login_id]
        entry.asked_at, entry.confirmed_at = asked_at, time.monotonic()

    def set_notified(self, login_id: str) -> None:
        entry = self.entries[login_id]
        entry.notified_at = entry.notified_at or time.monotonic()

    def set_ended(self, login_id: str) -> None:
        self.entries[login_id].ended_at = time.monotonic()

    def add_refusal(self, act: str, word: str) -> None:
        self.refusals[f"{act}: {word}"] += 1

    def add_token(self, login_id: str, token: str) -> None:
        entry = self.entries[login_id]
        entry.token_at = entry.token_at or time.monotonic()
        entry.tokens.append(claims(token)["jti"])

    def lost(self) -> list[str]:
        """Return the logins whose due token did not arrive, or not in time."""
        return [
            login_id
            for login_id, entry in self.entries.items()
            if entry.confirmed_at is not None and self._delay(entry) >= self._token_timeout
        ]

    def waiting_at_start(self) -> list[Entry]:
        """Return the logins with a code and without a token at the start of the fault."""
        return [
            entry
            for entry in self.entries.values()
            if entry.began_at < self.began_at < (entry.token_at or math.inf)
        ]

    def double(self) -> list[str]:
        """Return the logins with two different tokens."""
        return [name for name, entry in self.entries.items() if len(set(entry.tokens)) > 1]

    def row(self, fault: str, slowest_live: float) -> Row:
        confirm_times = [
            e.confirmed_at for e in self.entries.values() if e.confirmed_at is not None
        ]
        before = sum(at < self.began_at for at in confirm_times)
        after = sum(at > self.ended_at for at in confirm_times)
        return Row(
            fault=fault,
            before=before,
            during=len(confirm_times) - before - after,
            after=after,
            lost=len(self.lost()),
            double=len(self.double()),
            slowest_token=self._slowest_token(),
            slowest_live=slowest_live,
        )

    def _slowest_token(self) -> float:
        """Return the longest delay of the tokens that arrived after the fault."""
        return max(
            (
                self._delay(entry)
                for entry in self.entries.values()
                if entry.confirmed_at is not None and (entry.token_at or 0) > self.ended_at
            ),
            default=0.0,
        )

    def _delay(self, entry: Entry) -> float:
        """Return the delay of the token in seconds; infinite if it never arrived."""
        if entry.token_at is None:
            return math.inf
        assert entry.confirmed_at is not None
        return entry.token_at - max(entry.confirmed_at, self.ended_at)


def claims(token: str) -> dict[str, str]:
    """Return the claims of a token without a check of the signature."""
    body = token.split(".")[1]
    decoded: dict[str, str] = json.loads(urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return decoded
