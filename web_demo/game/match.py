"""One match of two people. Pure: times are arguments, in seconds of any clock.

choosing ── both hands, or the deadline ──▶ revealed ── a pause ──▶ choosing, or over
                                                                          │
choosing ◀──────────────────── both want a rematch ───────────────────────┘
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from .rules import MISSED_MAX, POINTS_TO_WIN, Hand, Outcome, outcome_of

View = dict[str, Any]


class Refused(Exception):
    """An act that is not possible. error, description: for the client."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.error = error
        self.description = description


class Phase(StrEnum):
    CHOOSING = "choosing"
    REVEALED = "revealed"
    OVER = "over"


class End(StrEnum):
    """The reason for the end of a match."""

    SCORE = "score"
    MISSED = "missed"
    LEFT = "left"


class Pace(NamedTuple):
    """Seconds to choose a hand, to look at both hands, and to agree on a rematch."""

    choose: float = 15.0
    reveal: float = 3.0
    rematch: float = 30.0


class Match:
    """A match of two people.

    names: of both, by subject.
    deadline: when the phase ends.  rematch: who wants to play again.  left: who has left.
    """

    phase: Phase
    deadline: float
    round: int
    rematch: set[str]
    end: End | None
    _winner: str | None
    _hands: dict[str, Hand]

    def __init__(self, names: Mapping[str, str], pace: Pace, now: float) -> None:
        first, second = names
        self._others = {first: second, second: first}
        self._pace = pace
        self.names = names
        self.left: set[str] = set()
        self._begin(now)

    @property
    def people(self) -> tuple[str, ...]:
        return tuple(self._others)

    def other(self, person: str) -> str:
        return self._others[person]

    def choose(self, person: str, number: int, hand: Hand, now: float) -> None:
        """Note a hand for the round `number`. Raises Refused. A repeat changes nothing."""
        if self.phase is not Phase.CHOOSING or number != self.round:
            raise Refused("wrong_round", f"the round {number} is not open")
        if self._hands.setdefault(person, hand) is not hand:
            raise Refused("already_chosen", "the hand of this round cannot be changed")
        if len(self._hands) == len(self._others):
            self._reveal(now)

    def advance(self, now: float) -> None:
        """End the phase, if its deadline has passed. An ended match does not change."""
        if now < self.deadline or self.phase is Phase.OVER:
            return
        if self.phase is Phase.CHOOSING:
            self._reveal(now)
        elif self.end is not None:
            self._set_phase(Phase.OVER, self._pace.rematch, now)
        else:
            self._next_round(now)

    def leave(self, person: str, now: float) -> None:
        """Remove a person. The other one wins, if the match has not ended."""
        self.left.add(person)
        if self.phase is not Phase.OVER:
            self.end = self.end or End.LEFT
            if self.end is End.LEFT:
                self._winner = self.other(person)
            self._set_phase(Phase.OVER, self._pace.rematch, now)

    def want_rematch(self, person: str, now: float) -> None:
        """Begin again, once both people want it. Raises Refused."""
        if self.phase is not Phase.OVER or self.left:
            raise Refused("no_rematch", "the match has not ended, or the opponent has left")
        self.rematch.add(person)
        if len(self.rematch) == len(self._others):
            self._begin(now)

    def view(self, person: str, now: float) -> View:
        """Return what `person` may see. The other hand is missing while the round is open."""
        other, is_open = self.other(person), self.phase is Phase.CHOOSING
        view: View = {
            "phase": self.phase.value,
            "round": self.round,
            "left_ms": max(0, round((self.deadline - now) * 1000)),
            "choose_ms": round(self._pace.choose * 1000),
            "score": [self._score[person], self._score[other]],
            "hand": self._hands.get(person),
            "other_chosen": other in self._hands,
        }
        if not is_open:
            hands = self._hands.get(person), self._hands.get(other)
            view |= {"other_hand": hands[1], "outcome": outcome_of(*hands).value}
        if self.phase is Phase.OVER and self.end is not None:
            rematch = [person in self.rematch, other in self.rematch]
            view |= {"result": self._result(person), "end": self.end.value, "rematch": rematch}
        return view

    def _begin(self, now: float) -> None:
        self.round = 0
        self.rematch = set()
        self.end = None
        self._winner = None
        self._score = dict.fromkeys(self._others, 0)
        self._missed = dict.fromkeys(self._others, 0)
        self._next_round(now)

    def _next_round(self, now: float) -> None:
        self.round += 1
        self._hands = {}
        self._set_phase(Phase.CHOOSING, self._pace.choose, now)

    def _reveal(self, now: float) -> None:
        for person, other in self._others.items():
            hand = self._hands.get(person)
            self._missed[person] = 0 if hand else self._missed[person] + 1
            if outcome_of(hand, self._hands.get(other)) is Outcome.WON:
                self._score[person] += 1
        self._set_phase(Phase.REVEALED, self._pace.reveal, now)
        self._decide()

    def _decide(self) -> None:
        """End the match for a score, or for a person who does not play."""
        lazy = [person for person, count in self._missed.items() if count >= MISSED_MAX]
        best = [person for person, score in self._score.items() if score >= POINTS_TO_WIN]
        if best:
            self.end, self._winner = End.SCORE, best[0]
        elif lazy:
            self.end = End.MISSED
            self._winner = self.other(lazy[0]) if len(lazy) == 1 else None

    def _result(self, person: str) -> str:
        if self._winner is None:
            return Outcome.DRAWN.value
        return (Outcome.WON if self._winner == person else Outcome.LOST).value

    def _set_phase(self, phase: Phase, seconds: float, now: float) -> None:
        self.phase = phase
        self.deadline = now + seconds
