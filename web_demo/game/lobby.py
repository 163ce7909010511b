"""The people, the queue and the matches. Pure: times are arguments, in seconds of any clock.

A person has one seat, which belongs to the newest tunnel of that person. So a person cannot play
against oneself, and a reload or another device takes the seat along.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .match import Match, Pace, Phase, Refused, View
from .rules import Hand


@dataclass
class Player:
    """A person with a tunnel.

    since: when the tunnel was opened or resumed.  is_here: whether it has a socket.
    """

    subject: str
    name: str
    tunnel_id: str
    since: float
    is_here: bool = True
    match: Match | None = None


class Lobby:
    """The state of the game.

    version: of the last view, which grows. Replies and pushes can overtake each other.
    changed: the subjects whose view has changed, for the next push.
    """

    def __init__(self, pace: Pace, version: int = 0) -> None:
        self._pace = pace
        self._version = version
        self._players: dict[str, Player] = {}
        self._queue: dict[str, None] = {}  # in the order of arrival
        self._matches: set[Match] = set()
        self.changed: set[str] = set()

    # Tunnels

    def find(self, subject: str) -> Player | None:
        return self._players.get(subject)

    def attach(self, subject: str, name: str, tunnel_id: str, now: float) -> str | None:
        """Give the seat of a person to a tunnel. Returns the tunnel that had it before."""
        player = self._players.get(subject)
        if player is None:
            self._players[subject] = Player(subject, name, tunnel_id, now)
            return None
        former = player.tunnel_id
        player.tunnel_id, player.since = tunnel_id, now
        self.note_presence(player, is_here=True, now=now)
        return former if former != tunnel_id else None

    def detach(self, player: Player, now: float) -> None:
        """Remove a person whose tunnel has closed."""
        self._leave(player, now)
        del self._players[player.subject]
        self.changed.discard(player.subject)
        self._pair(now)

    def note_presence(self, player: Player, *, is_here: bool, now: float) -> None:
        if player.is_here is is_here:
            return
        player.is_here = is_here
        if player.match is not None:
            self.changed.add(player.match.other(player.subject))
        self._pair(now)

    def active(self) -> list[Player]:
        """Return the people who play or wait."""
        return [
            player
            for player in self._players.values()
            if player.match is not None or player.subject in self._queue
        ]

    # Acts

    def act(self, player: Player, fields: Mapping[str, Any], now: float) -> None:
        """Apply the act of a client. Raises Refused; nothing has changed then."""
        act = fields.get("act")
        if not isinstance(act, str) or act not in ACTS:
            raise Refused("invalid_request", f"act: one of {', '.join(ACTS)}")
        ACTS[act](self, player, fields, now)
        self._pair(now)

    def look(self, player: Player, fields: Mapping[str, Any], now: float) -> None:
        """Change nothing: each act is answered with the view."""

    def play(self, player: Player, fields: Mapping[str, Any], now: float) -> None:
        if player.match is not None and player.match.phase is not Phase.OVER:
            raise Refused("already_playing", "leave the match first")
        if player.subject not in self._queue:
            self._leave(player, now)
            self._queue[player.subject] = None
        self.changed.add(player.subject)

    def throw(self, player: Player, fields: Mapping[str, Any], now: float) -> None:
        number, hand = fields.get("round"), fields.get("hand")
        if type(number) is not int or not isinstance(hand, str) or hand not in set(Hand):
            raise Refused("invalid_request", f"hand: one of {', '.join(Hand)}; round: a number")
        self._match_of(player).choose(player.subject, number, Hand(hand), now)
        self._note_change(player)

    def again(self, player: Player, fields: Mapping[str, Any], now: float) -> None:
        self._match_of(player).want_rematch(player.subject, now)
        self._note_change(player)

    def leave(self, player: Player, fields: Mapping[str, Any], now: float) -> None:
        self._leave(player, now)
        self.changed.add(player.subject)

    # Time

    def advance(self, now: float) -> None:
        """Apply the deadlines that have passed."""
        for match in [one for one in self._matches if one.deadline <= now]:
            self.changed.update(self._present(match))
            if match.phase is Phase.OVER:
                self._dissolve(match)
            else:
                match.advance(now)
        self._pair(now)

    def next_deadline(self) -> float | None:
        return min((match.deadline for match in self._matches), default=None)

    def view(self, player: Player, now: float) -> View:
        """Return what the person may see."""
        self._version += 1
        view: View = {"version": self._version, "you": player.name}
        if player.match is None:
            return {**view, "phase": "waiting" if player.subject in self._queue else "idle"}
        match, other = player.match, player.match.other(player.subject)
        return {**view, **match.view(player.subject, now), "other": self._person(match, other)}

    def _person(self, match: Match, subject: str) -> View:
        """Return the opponent. state: `here`, `away` or `left`."""
        found = self._players.get(subject)
        if found is None or found.match is not match:
            return {"name": match.names[subject], "state": "left"}
        return {"name": found.name, "state": "here" if found.is_here else "away"}

    def _match_of(self, player: Player) -> Match:
        if player.match is None:
            raise Refused("no_match", "there is no match")
        return player.match

    def _note_change(self, player: Player) -> None:
        if player.match is not None:
            self.changed.update(self._present(player.match))

    def _present(self, match: Match) -> list[str]:
        people = (self._players.get(subject) for subject in match.people)
        return [one.subject for one in people if one is not None and one.match is match]

    def _leave(self, player: Player, now: float) -> None:
        """Take a person out of the queue or the match."""
        self._queue.pop(player.subject, None)
        match, player.match = player.match, None
        if match is None:
            return
        match.leave(player.subject, now)
        rest = self._present(match)
        self.changed.update(rest)
        if not rest or match.rematch.intersection(rest):
            self._dissolve(match)

    def _dissolve(self, match: Match) -> None:
        """Remove an ended match. A person who has chosen a rematch waits for another opponent."""
        self._matches.discard(match)
        for subject in self._present(match):
            self._players[subject].match = None
            if subject in match.rematch:
                self._queue[subject] = None

    def _pair(self, now: float) -> None:
        """Begin matches of the people who wait and are here."""
        waiting = [subject for subject in self._queue if self._players[subject].is_here]
        for first, second in zip(waiting[::2], waiting[1::2], strict=False):
            one, two = self._players[first], self._players[second]
            match = Match({first: one.name, second: two.name}, self._pace, now)
            self._matches.add(match)
            for player in (one, two):
                del self._queue[player.subject]
                player.match = match
            self.changed.update((first, second))


ACTS: Mapping[str, Callable[[Lobby, Player, Mapping[str, Any], float], None]] = {
    "look": Lobby.look,
    "play": Lobby.play,
    "throw": Lobby.throw,
    "again": Lobby.again,
    "leave": Lobby.leave,
}
"""The acts of clients. `throw` has `hand` and `round`."""
