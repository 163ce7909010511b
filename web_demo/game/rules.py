"""The rules of rock-paper-scissors. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Hand(StrEnum):
    ROCK = "rock"
    PAPER = "paper"
    SCISSORS = "scissors"


class Outcome(StrEnum):
    """The end of a round or of a match, for one of the two people."""

    WON = "won"
    LOST = "lost"
    DRAWN = "drawn"


BEATS: Mapping[Hand, Hand] = {
    Hand.ROCK: Hand.SCISSORS,
    Hand.SCISSORS: Hand.PAPER,
    Hand.PAPER: Hand.ROCK,
}
"""Each hand, and the one that it beats."""

POINTS_TO_WIN = 3

MISSED_MAX = 2
"""Rounds in a row without a hand, after which the match is lost: the opponent waits no longer."""


def outcome_of(own: Hand | None, other: Hand | None) -> Outcome:
    """Return the outcome for the person with `own`. Every hand beats None, a missing hand."""
    if own == other:
        return Outcome.DRAWN
    if other is None or (own is not None and BEATS[own] == other):
        return Outcome.WON
    return Outcome.LOST
