"""Random orders of leases, returns, crashes, offers, withdrawals and losses of state.

No scene is on two screens at once, the lowest free number is leased first, and no number
is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from broker.pool.model import LeasedCode, OfferedCode, PoolLevel
from broker.pool.ports import CodeLeases
from broker.state import open_state
from tests.support.builders import Clock
from tests.support.servers.redis import Engines
from tests.support.state_machines import run_machine, runner_of

T = TypeVar("T")

LIFETIME = 120
COOLDOWN = 300
NUMBERS = range(6)


class Environment(NamedTuple):
    """Objects that examples share: a loop, a clock, and a function that empties the state."""

    runner: asyncio.Runner
    clock: Clock
    empty: Callable[[], list[CodeLeases]]


class Screen(NamedTuple):
    """A browser that shows a code until `until`, or until the code is returned."""

    leased: LeasedCode
    until: float


class Pool(RuleBasedStateMachine):
    """A model of the pool: recorded codes, expected leases, and codes on screens.

    codes: the latest drawing of every number.  retired: numbers that are in no pool.
    free_at: the time when a leased number is free again.  leases: the lease of a number.
    on_screens: displayed codes.  returnable: displayed codes that can be returned.
    """

    def __init__(self, environment: Environment) -> None:
        super().__init__()
        self.runner, self.clock, self.empty = environment
        self.instances = self.empty()
        self.codes: dict[int, OfferedCode] = {}
        self.retired: set[int] = set()
        self.free_at: dict[int, float] = {}
        self.leases: dict[int, Screen] = {}
        self.uses: dict[int, int] = {}
        self.on_screens: list[Screen] = []
        self.returnable: list[Screen] = []
        self.returned: list[Screen] = []
        self.generations: set[tuple[int, int]] = set()

    def run(self, act: Awaitable[T]) -> T:
        async def call() -> T:
            return await act

        return self.runner.run(call())

    def available(self) -> set[int]:
        return self.codes.keys() - self.retired

    def free(self) -> set[int]:
        return {
            number for number in self.available() if self.free_at.get(number, 0) <= self.clock()
        }

    instance_numbers = st.integers(0, 1)
    indexes = st.integers(0, 20)

    @initialize(instance=instance_numbers, count=st.integers(1, len(NUMBERS)))
    def fill(self, instance: int, count: int) -> None:
        self.draw(instance, set(NUMBERS[:count]))

    @rule(instance=instance_numbers, lifetime=st.sampled_from([1, LIFETIME]))
    def lease(self, instance: int, lifetime: int) -> None:
        now, free = self.clock(), self.free()
        leased = self.run(
            self.instances[instance].lease("shop", until=now + lifetime, cooldown=COOLDOWN)
        )
        assert (leased and leased.code) == (self.codes[min(free)] if free else None)
        if leased is None:
            return
        number, screen = leased.code.number, Screen(leased, now + lifetime)
        seen = {other.leased.code.scene for other in self.on_screens if other.until > now}
        assert leased.code.scene not in seen
        assert (number, leased.generation) not in self.generations
        self.generations.add((number, leased.generation))
        self.uses[number] = self.uses.get(number, 0) + 1
        assert leased.uses == self.uses[number]
        self.leases[number], self.free_at[number] = screen, screen.until + COOLDOWN
        self.on_screens.append(screen)
        self.returnable.append(screen)

    @precondition(lambda self: self.returnable)
    @rule(instance=instance_numbers, index=indexes)
    def return_code(self, instance: int, index: int) -> None:
        """Return a code, also an expired, retired or lost one."""
        screen = self.returnable.pop(index % len(self.returnable))
        self.on_screens.remove(screen)
        self.returned.append(screen)
        self.send_return(instance, screen)
        number = screen.leased.code.number
        if self.leases.get(number) == screen and screen.until > self.clock():
            del self.leases[number]
            self.free_at[number] = self.clock() + COOLDOWN

    @precondition(lambda self: self.returned)
    @rule(instance=instance_numbers, index=indexes)
    def return_code_again(self, instance: int, index: int) -> None:
        self.send_return(instance, self.returned[index % len(self.returned)])

    def send_return(self, instance: int, screen: Screen) -> None:
        number, generation = screen.leased.code.number, screen.leased.generation
        self.run(
            self.instances[instance].return_code("shop", number, generation, cooldown=COOLDOWN)
        )

    @rule()
    def crash_instance(self) -> None:
        """No instance returns the codes that are on screens now."""
        self.returnable.clear()

    @rule(
        seconds=st.sampled_from(
            [1, LIFETIME - 1, LIFETIME, COOLDOWN - 1, COOLDOWN, LIFETIME + COOLDOWN]
        )
    )
    def wait(self, seconds: int) -> None:
        self.clock.time += seconds

    @rule(
        instance=instance_numbers, numbers=st.sets(st.sampled_from(NUMBERS), min_size=1, max_size=3)
    )
    def draw(self, instance: int, numbers: set[int]) -> None:
        """Offer new numbers, and new drawings of known numbers."""
        offered = [self.next_drawing(number) for number in numbers]
        self.run(self.instances[instance].offer("shop", offered))
        self.codes |= {code.number: code for code in offered}
        self.uses |= dict.fromkeys(numbers, 0)
        self.retired -= numbers

    def next_drawing(self, number: int) -> OfferedCode:
        drawing = self.codes[number].drawing + 1 if number in self.codes else 0
        scene = f"scene-{number}-{drawing}"
        return OfferedCode(number=number, drawing=drawing, scene=scene, picture=f"{scene}.png")

    @rule(instance=instance_numbers, cooldown=st.sampled_from([0, COOLDOWN]))
    def offer_again(self, instance: int, cooldown: int) -> None:
        """Offer the records as they were before the last numbers were retired."""
        self.run(
            self.instances[instance].offer("shop", list(self.codes.values()), cooldown=cooldown)
        )

    @rule(instance=instance_numbers, number=st.sampled_from(NUMBERS))
    def retire(self, instance: int, number: int) -> None:
        if number in self.codes:
            self.run(
                self.instances[instance].withdraw("shop", {number: self.codes[number].drawing})
            )
            self.retired.add(number)
            self.free_at.pop(number, None)
            self.leases.pop(number, None)

    @rule(instance=instance_numbers, number=st.sampled_from(NUMBERS))
    def retire_late(self, instance: int, number: int) -> None:
        """Withdraw a drawing that has a later one."""
        if number in self.codes and self.codes[number].drawing:
            self.run(
                self.instances[instance].withdraw("shop", {number: self.codes[number].drawing - 1})
            )

    @rule(instance=instance_numbers)
    def lose_state(self, instance: int) -> None:
        """Empty the state, wait a moment, and restore the codes from the records."""
        self.instances = self.empty()
        self.clock.time += 1
        available = self.available()
        codes = [self.codes[number] for number in available]
        self.run(self.instances[instance].offer("shop", codes, cooldown=COOLDOWN))
        withdrawn = {number: self.codes[number].drawing for number in self.retired}
        self.run(self.instances[instance].withdraw("shop", withdrawn))
        self.free_at = dict.fromkeys(available, self.clock() + COOLDOWN)
        self.leases, self.uses = {}, {}

    @invariant()
    def level_matches_the_rules(self) -> None:
        now, free = self.clock(), len(self.free())
        leased = sum(screen.until > now for screen in self.leases.values())
        expected = PoolLevel(free, leased, len(self.available()) - free - leased)
        assert self.run(self.instances[0].level("shop")) == expected

    def teardown(self) -> None:
        """After every lease and cooldown has ended, every number can be leased."""
        self.clock.time += LIFETIME + COOLDOWN
        free = []
        while leased := self.run(
            self.instances[0].lease("shop", until=self.clock() + LIFETIME, cooldown=COOLDOWN)
        ):
            free.append(leased.code.number)
        assert free == sorted(self.available())


@pytest.mark.timeout(400)  # ten seconds; five minutes more to simplify a failure
@pytest.mark.parametrize("engine", ["memory", "valkey"])
def test_random_operations_never_lose_or_duplicate_codes(engines: Engines, engine: str) -> None:
    """Two instances; with memory only one."""
    clock = Clock()
    stores = [open_state(engines.url(engine), clock) for _ in range(2)]

    def empty() -> list[CodeLeases]:
        engines.empty(engine)
        if engine == "memory":
            return [open_state("memory://", clock).code_leases] * 2
        return [store.code_leases for store in stores]

    with runner_of(*stores) as runner:
        run_machine(lambda: Pool(Environment(runner, clock, empty)), examples=100, steps=40)
