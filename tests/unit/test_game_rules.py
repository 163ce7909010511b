"""The rules of the demo's game, its matches and its lobby."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from web_demo.game.lobby import ACTS, Lobby
from web_demo.game.match import Match, Pace, Phase, Refused
from web_demo.game.rules import BEATS, MISSED_MAX, POINTS_TO_WIN, Hand, Outcome, outcome_of

PACE = Pace(choose=15, reveal=3, rematch=30)
NAMES = {"a": "Alice", "b": "Bob"}
OPPOSITE = {Outcome.WON: Outcome.LOST, Outcome.LOST: Outcome.WON, Outcome.DRAWN: Outcome.DRAWN}
HANDS: list[Hand | None] = [*Hand, None]


@pytest.mark.parametrize(("own", "other"), list(itertools.product(HANDS, HANDS)))
def test_outcome_is_opposite_for_the_opponent(own: Hand | None, other: Hand | None) -> None:
    assert OPPOSITE[outcome_of(own, other)] is outcome_of(other, own)


@pytest.mark.parametrize("hand", Hand)
def test_hand_beats_one_and_loses_to_one(hand: Hand) -> None:
    outcomes = [outcome_of(hand, other) for other in Hand]

    assert sorted(outcomes) == ["drawn", "lost", "won"]
    assert outcome_of(hand, BEATS[hand]) is Outcome.WON
    assert outcome_of(hand, None) is Outcome.WON


def played(match: Match, now: float, *hands: tuple[Hand | None, Hand | None]) -> float:
    """Play rounds, and return the time after them."""
    for own, other in hands:
        for person, hand in (("a", own), ("b", other)):
            if hand is not None:
                match.choose(person, match.round, hand, now)
        now = match.deadline if match.phase is Phase.CHOOSING else now
        match.advance(now)
        now = match.deadline
        match.advance(now)
    return now


def test_third_point_wins_the_match() -> None:
    match = Match(NAMES, PACE, 0)

    played(match, 0, *[(Hand.ROCK, Hand.SCISSORS)] * POINTS_TO_WIN)

    view = match.view("a", 0)
    assert (view["phase"], view["score"], view["result"], view["end"]) == (
        "over",
        [3, 0],
        "won",
        "score",
    )
    assert match.view("b", 0)["result"] == "lost"


def test_missed_rounds_in_a_row_lose_the_match() -> None:
    match = Match(NAMES, PACE, 0)

    played(match, 0, *[(Hand.ROCK, None)] * MISSED_MAX)

    assert (match.view("a", 0)["result"], match.view("a", 0)["end"]) == ("won", "missed")


def test_unplayed_match_ends_without_winner() -> None:
    match = Match(NAMES, PACE, 0)

    played(match, 0, *[(None, None)] * MISSED_MAX)

    assert [match.view(person, 0)["result"] for person in NAMES] == ["drawn", "drawn"]


def test_hand_after_a_missed_round_continues_the_match() -> None:
    match = Match(NAMES, PACE, 0)

    played(match, 0, (Hand.ROCK, None), (Hand.ROCK, Hand.ROCK), (Hand.ROCK, None))

    assert match.phase is Phase.CHOOSING


def test_hand_cannot_be_changed() -> None:
    match = Match(NAMES, PACE, 0)
    match.choose("a", 1, Hand.ROCK, 0)
    match.choose("a", 1, Hand.ROCK, 0)

    with pytest.raises(Refused, match="cannot be changed"):
        match.choose("a", 1, Hand.PAPER, 0)


@pytest.mark.parametrize("number", [0, 2])
def test_hand_for_another_round_is_refused(number: int) -> None:
    match = Match(NAMES, PACE, 0)

    with pytest.raises(Refused, match="not open"):
        match.choose("a", number, Hand.ROCK, 0)


def test_leaving_gives_the_match_to_the_opponent() -> None:
    match = Match(NAMES, PACE, 0)

    match.leave("a", 1)

    assert (match.view("b", 1)["result"], match.view("b", 1)["end"]) == ("won", "left")


def test_leaving_after_the_last_round_keeps_the_winner() -> None:
    match = Match(NAMES, PACE, 0)
    now = played(match, 0, *[(Hand.ROCK, Hand.SCISSORS)] * 2)
    for person, hand in (("a", Hand.ROCK), ("b", Hand.SCISSORS)):
        match.choose(person, match.round, hand, now)

    match.leave("a", now)

    assert (match.view("b", now)["result"], match.view("b", now)["end"]) == ("lost", "score")


def test_rematch_begins_after_both_votes() -> None:
    match = Match(NAMES, PACE, 0)
    now = played(match, 0, *[(Hand.ROCK, Hand.SCISSORS)] * POINTS_TO_WIN)

    match.want_rematch("a", now)
    assert match.view("b", now)["rematch"] == [False, True]
    match.want_rematch("b", now)

    assert (match.phase, match.round, match.view("a", now)["score"]) == ("choosing", 1, [0, 0])


class Table:
    """A lobby with some people."""

    def __init__(self, *people: str) -> None:
        self.lobby = Lobby(PACE)
        self.now = 0.0
        for person in people:
            self.lobby.attach(person, person.title(), f"tunnel-{person}", 0)

    def act(self, person: str, act: str, **fields: object) -> None:
        player = self.lobby.find(person)
        assert player is not None
        self.lobby.act(player, {"act": act, **fields}, self.now)

    def view(self, person: str) -> dict[str, object]:
        player = self.lobby.find(person)
        assert player is not None
        return self.lobby.view(player, self.now)

    def phases(self, *people: str) -> list[object]:
        return [self.view(person)["phase"] for person in people]

    def close(self, person: str) -> None:
        player = self.lobby.find(person)
        assert player is not None
        self.lobby.detach(player, self.now)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.lobby.advance(self.now)


def test_people_are_paired_in_order_of_arrival() -> None:
    table = Table("a", "b", "c")

    for person in "abc":
        table.act(person, "play")

    assert table.phases(*"abc") == ["choosing", "choosing", "waiting"]
    assert table.view("a")["other"] == {"name": "B", "state": "here"}


def test_repeated_play_waits_once() -> None:
    table = Table("a")

    table.act("a", "play")
    table.act("a", "play")

    assert table.phases("a") == ["waiting"]


def test_away_person_is_paired_after_the_return() -> None:
    table = Table("a", "b")
    table.act("a", "play")
    away = table.lobby.find("a")
    assert away is not None
    table.lobby.note_presence(away, is_here=False, now=0)
    table.act("b", "play")
    assert table.phases("a", "b") == ["waiting", "waiting"]

    table.lobby.attach("a", "A", "tunnel-a", 1)

    assert table.phases("a", "b") == ["choosing", "choosing"]


def test_idle_opponent_frees_the_table() -> None:
    table = Table("a", "b")
    for person in "ab":
        table.act(person, "play")

    for _ in range(MISSED_MAX):
        table.act("a", "throw", round=table.view("a")["round"], hand="rock")
        table.pass_time(PACE.choose)
        table.pass_time(PACE.reveal)

    assert table.view("a")["result"] == "won"


def test_closed_tunnel_ends_the_match() -> None:
    table = Table("a", "b")
    for person in "ab":
        table.act(person, "play")

    table.close("b")

    view = table.view("a")
    assert (view["result"], view["end"], view["other"]) == (
        "won",
        "left",
        {"name": "B", "state": "left"},
    )


def test_left_match_ends_after_a_while() -> None:
    table = Table("a", "b")
    for person in "ab":
        table.act(person, "play")
    table.act("b", "leave")
    assert table.phases("a", "b") == ["over", "idle"]

    table.pass_time(PACE.rematch)

    assert table.phases("a") == ["idle"]


def test_declined_rematch_leads_to_the_queue() -> None:
    table = Table("a", "b")
    for person in "ab":
        table.act(person, "play")
    for _ in range(MISSED_MAX):
        table.act("a", "throw", round=table.view("a")["round"], hand="rock")
        table.pass_time(PACE.choose)
        table.pass_time(PACE.reveal)
    table.act("a", "again")

    table.act("b", "leave")

    assert table.phases("a", "b") == ["waiting", "idle"]


def test_newer_tunnel_takes_the_seat_along() -> None:
    table = Table("a", "b")
    for person in "ab":
        table.act(person, "play")

    former = table.lobby.attach("a", "A", "tunnel-new", 1)

    assert former == "tunnel-a"
    assert table.phases("a", "b") == ["choosing", "choosing"]


ODD: st.SearchStrategy[object] = st.sampled_from(
    [None, True, -1, 1, 2, 1.0, "rock", "paper", "x", [], {}]
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.sampled_from([*ACTS, "close", "time", "odd"]),
        st.sampled_from(list(Hand)),
        ODD,
        st.sampled_from([0.0, 3.0, 15.0, 30.0]),
    ),
    max_size=60,
)


@given(STEPS)
def test_random_acts_never_show_a_hidden_hand(
    steps: list[tuple[str, str, Hand, object, float]],
) -> None:
    """No view shows a hand of an open round, and no match or queue lasts longer than its people."""
    table = Table(*"abc")
    for person, act, hand, odd, seconds in steps:
        if table.lobby.find(person) is None:
            table.lobby.attach(person, person.title(), f"tunnel-{person}", table.now)
        try:
            if act == "close":
                table.close(person)
            elif act == "time":
                table.pass_time(seconds)
            elif act == "odd":
                table.act(person, "throw", round=odd, hand=odd)
            else:
                table.act(person, act, round=table.view(person).get("round"), hand=hand.value)
        except Refused:
            pass
        check(table)
    for _ in range(20):
        table.pass_time(30.0)
    assert table.lobby.next_deadline() is None


def check(table: Table) -> None:
    present = [person for person in "abc" if table.lobby.find(person) is not None]
    views = {person: table.view(person) for person in present}
    playing = [one for one, view in views.items() if view["phase"] not in ("idle", "waiting")]
    for person in playing:
        view = views[person]
        assert view["phase"] != "choosing" or "other_hand" not in view
        assert isinstance(view["score"], list)
        assert max(view["score"]) <= POINTS_TO_WIN
    assert [view["phase"] for view in views.values()].count("waiting") <= 1
