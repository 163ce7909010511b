"""Any order of leases, give-backs, crashes, offers, withdrawals and losses of the state.

No scene is on two screens at once, the lowest free number goes first, no number is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from broker.pool.model import LeasedCode, OfferedCode, PoolLevel
from broker.pool.ports import CodeLeases
from broker.state import open_state
from tests.support.builders import Clock
from tests.support.servers.redis import Engines
from tests.support.waiting import opened

T = TypeVar("T")

LIFE = 120
REST = 300
NUMBERS = range(6)


class World(NamedTuple):
    """What examples share: a loop, and how to have instances over a state that is empty."""

    runner: asyncio.Runner
    clock: Clock
    empty: Callable[[], list[CodeLeases]]


class Screen(NamedTuple):
    """A browser that shows a code until then, or until it gives it back."""

    leased: LeasedCode
    until: float


class Pool(RuleBasedStateMachine):
    """Kept beside the state: what is recorded, what the rules say, what is on screens.

    codes: the latest drawing of every number.  retired: the numbers that are in no pool.
    back: when a number that is out is free again.  present: the lease of a number.
    on_screens: codes that somebody sees.  held: those of them that may yet be given back.
    """

    def __init__(self, world: World) -> None:
        super().__init__()
        self.runner, self.clock, self.empty = world
        self.instances = self.empty()
        self.codes: dict[int, OfferedCode] = {}
        self.retired: set[int] = set()
        self.back: dict[int, float] = {}
        self.present: dict[int, Screen] = {}
        self.uses: dict[int, int] = {}
        self.on_screens: list[Screen] = []
        self.held: list[Screen] = []
        self.over: list[Screen] = []
        self.generations: set[tuple[int, int]] = set()

    def run(self, act: Awaitable[T]) -> T:
        async def waited() -> T:
            return await act

        return self.runner.run(waited())

    def there(self) -> set[int]:
        return self.codes.keys() - self.retired

    def free(self) -> set[int]:
        return {number for number in self.there() if self.back.get(number, 0) <= self.clock()}

    ats = st.integers(0, 1)
    picks = st.integers(0, 20)

    @initialize(at=ats, count=st.integers(1, len(NUMBERS)))
    def fill(self, at: int, count: int) -> None:
        self.draw(at, set(NUMBERS[:count]))

    @rule(at=ats, life=st.sampled_from([1, LIFE]))
    def lease(self, at: int, life: int) -> None:
        now, free = self.clock(), self.free()
        leased = self.run(self.instances[at].lease("shop", until=now + life, cooldown=REST))
        assert (leased and leased.code) == (self.codes[min(free)] if free else None)
        if leased is None:
            return
        number, screen = leased.code.number, Screen(leased, now + life)
        seen = {other.leased.code.scene for other in self.on_screens if other.until > now}
        assert leased.code.scene not in seen
        assert (number, leased.generation) not in self.generations
        self.generations.add((number, leased.generation))
        self.uses[number] = self.uses.get(number, 0) + 1
        assert leased.uses == self.uses[number]
        self.present[number], self.back[number] = screen, screen.until + REST
        self.on_screens.append(screen)
        self.held.append(screen)

    @precondition(lambda self: self.held)
    @rule(at=ats, pick=picks)
    def give_back(self, at: int, pick: int) -> None:
        """Also what time has ended, what was retired meanwhile, and what the state has lost."""
        screen = self.held.pop(pick % len(self.held))
        self.on_screens.remove(screen)
        self.over.append(screen)
        self.tell(at, screen)
        number = screen.leased.code.number
        if self.present.get(number) == screen and screen.until > self.clock():
            del self.present[number]
            self.back[number] = self.clock() + REST

    @precondition(lambda self: self.over)
    @rule(at=ats, pick=picks)
    def give_back_again(self, at: int, pick: int) -> None:
        self.tell(at, self.over[pick % len(self.over)])

    def tell(self, at: int, screen: Screen) -> None:
        number, generation = screen.leased.code.number, screen.leased.generation
        self.run(self.instances[at].return_code("shop", number, generation, cooldown=REST))

    @rule()
    def crash(self) -> None:
        """Nobody will give back what is on screens now."""
        self.held.clear()

    @rule(seconds=st.sampled_from([1, LIFE - 1, LIFE, REST - 1, REST, LIFE + REST]))
    def wait(self, seconds: int) -> None:
        self.clock.time += seconds

    @rule(at=ats, numbers=st.sets(st.sampled_from(NUMBERS), min_size=1, max_size=3))
    def draw(self, at: int, numbers: set[int]) -> None:
        """New numbers, and new drawings of those that are known."""
        drawn = [self.drawn(number) for number in numbers]
        self.run(self.instances[at].offer("shop", drawn))
        self.codes |= {code.number: code for code in drawn}
        self.uses |= dict.fromkeys(numbers, 0)
        self.retired -= numbers

    def drawn(self, number: int) -> OfferedCode:
        drawing = self.codes[number].drawing + 1 if number in self.codes else 0
        scene = f"scene-{number}-{drawing}"
        return OfferedCode(number=number, drawing=drawing, scene=scene, picture=f"{scene}.png")

    @rule(at=ats, rest=st.sampled_from([0, REST]))
    def offer_again(self, at: int, rest: int) -> None:
        """By somebody who has read the records before the last numbers were retired."""
        self.run(self.instances[at].offer("shop", list(self.codes.values()), cooldown=rest))

    @rule(at=ats, number=st.sampled_from(NUMBERS))
    def retire(self, at: int, number: int) -> None:
        if number in self.codes:
            self.run(self.instances[at].withdraw("shop", {number: self.codes[number].drawing}))
            self.retired.add(number)
            self.back.pop(number, None)
            self.present.pop(number, None)

    @rule(at=ats, number=st.sampled_from(NUMBERS))
    def retire_late(self, at: int, number: int) -> None:
        """Somebody says so of a drawing that another has followed."""
        if number in self.codes and self.codes[number].drawing:
            self.run(self.instances[at].withdraw("shop", {number: self.codes[number].drawing - 1}))

    @rule(at=ats)
    def lose_the_state(self, at: int) -> None:
        """It is empty, a moment passes, and the records say what was there."""
        self.instances = self.empty()
        self.clock.time += 1
        there = self.there()
        codes = [self.codes[number] for number in there]
        self.run(self.instances[at].offer("shop", codes, cooldown=REST))
        gone = {number: self.codes[number].drawing for number in self.retired}
        self.run(self.instances[at].withdraw("shop", gone))
        self.back = dict.fromkeys(there, self.clock() + REST)
        self.present, self.uses = {}, {}

    @invariant()
    def the_level_says_what_the_rules_say(self) -> None:
        now, free = self.clock(), len(self.free())
        leased = sum(screen.until > now for screen in self.present.values())
        expected = PoolLevel(free, leased, len(self.there()) - free - leased)
        assert self.run(self.instances[0].level("shop")) == expected

    def teardown(self) -> None:
        """Nothing is lost for ever: when all time is over, every number can be leased."""
        self.clock.time += LIFE + REST
        free = []
        while leased := self.run(
            self.instances[0].lease("shop", until=self.clock() + LIFE, cooldown=REST)
        ):
            free.append(leased.code.number)
        assert free == sorted(self.there())


@pytest.mark.timeout(400)  # ten seconds; five minutes more to simplify what fails
@pytest.mark.parametrize("engine", ["memory", "valkey"])
def test_no_order_of_events_leases_a_scene_twice_or_loses_a_number(
    engines: Engines, engine: str
) -> None:
    """Two instances; memory has but one."""
    clock = Clock()
    stores = [open_state(engines.url(engine), clock) for _ in range(2)]

    def empty() -> list[CodeLeases]:
        engines.empty(engine)
        if engine == "memory":
            return [open_state("memory://", clock).code_leases] * 2
        return [store.code_leases for store in stores]

    with asyncio.Runner() as runner:
        for store in stores:
            runner.run(opened(store))
        run_state_machine_as_test(
            lambda: Pool(World(runner, clock, empty)),
            settings=settings(max_examples=100, stateful_step_count=40, deadline=None),
        )
        for store in stores:
            runner.run(store.close())
