"""Random orders of swaps, repeats, drops and ends, at two instances.

A family has one successor for each number, and no order of calls restores an ended one.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable
from dataclasses import replace
from typing import NamedTuple, TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from broker.oidc.model import Family
from broker.oidc.ports import FamilyState
from broker.state import StateBackend, open_state
from tests.support.builders import Clock
from tests.support.grants import a_family, a_grant, a_sign_in
from tests.support.servers.redis import Engines
from tests.support.state_machines import run_machine, runner_of

T = TypeVar("T")

LONG = 1_000.0


class Environment(NamedTuple):
    """Objects that examples share: a loop, a clock, and the state as two instances see it."""

    runner: asyncio.Runner
    clock: Clock
    stores: list[StateBackend]


class Rotation(RuleBasedStateMachine):
    """A model of one family and its sign-in session.

    history: the family with each number that it had.
    """

    instances = st.integers(0, 1)

    def __init__(self, environment: Environment, is_offline: bool) -> None:
        super().__init__()
        self.runner, self.clock, self.stores = environment
        # A new subject, because a subject's sessions and families are limited.
        subject = f"pretend:{secrets.token_hex(8)}"
        self.sign_in = a_sign_in(self.clock, subject=subject, cookie_hash=None)
        first = a_family(self.clock, a_grant(self.sign_in, offline=is_offline))
        self.history = [first]
        self.is_signed_in = self.is_stored = True
        self.save_sign_in(0)
        assert self.run(self.stores[0].grants.save(first))

    def run(self, act: Awaitable[T]) -> T:
        async def call() -> T:
            return await act

        return self.runner.run(call())

    def expected(self) -> FamilyState | None:
        if not self.is_stored:
            return None
        has_rotated = len(self.history) > 1  # and no grace has ended
        return FamilyState(self.history[-1], self.is_signed_in, has_rotated)

    def swapped(
        self, instance: int, before: Family, after: Family
    ) -> Awaitable[FamilyState | None]:
        return self.stores[instance].grants.swap(before, after, idle=LONG, grace=LONG)

    def successor(self, before: Family) -> Family:
        """Return a successor that differs from all others of this number."""
        self.clock.time += 0.001
        return replace(before, n=before.n + 1, rotated_at=self.clock())

    @rule(instance=instances, index=st.integers(0, 30))
    def swap(self, instance: int, index: int) -> None:
        """Swap the current family or a former one."""
        before = self.history[-1 - index % len(self.history)]
        after = self.successor(before)
        if self.is_stored and before.n == self.history[-1].n:
            self.history.append(after)
        assert self.run(self.swapped(instance, before, after)) == self.expected()

    @rule(count=st.integers(2, 5))
    def race(self, count: int) -> None:
        """Swap the current family several times at once."""
        before = self.history[-1]
        changes = [self.successor(before) for _ in range(count)]
        swaps = [self.swapped(number % 2, before, after) for number, after in enumerate(changes)]
        results = self.run(asyncio.gather(*swaps))
        if self.is_stored:
            assert results[0] is not None
            assert results[0].family in changes
            self.history.append(results[0].family)
        assert results == [self.expected()] * count

    @rule(instance=instances)
    def save_again(self, instance: int) -> None:
        """Repeat the exchange of the code."""
        assert self.run(self.stores[instance].grants.save(self.history[0])) == self.is_stored

    @rule(instance=instances)
    def save_sign_in(self, instance: int) -> None:
        self.run(self.stores[instance].sign_ins.save(self.sign_in, self.clock() + LONG))

    @rule(instance=instances)
    def touch_sign_in(self, instance: int) -> None:
        touch = self.stores[instance].sign_ins.touch(self.sign_in, self.clock() + LONG)
        assert self.run(touch) == self.is_signed_in

    @rule(instance=instances, chance=st.integers(0, 9))
    def drop(self, instance: int, chance: int) -> None:
        if chance:
            return  # seldom, so that most families live long
        dropped = self.run(self.stores[instance].grants.drop(self.history[-1].grant.family))
        assert dropped == (self.history[-1] if self.is_stored else None)
        self.is_stored = False

    @rule(instance=instances, chance=st.integers(0, 9))
    def end_sign_in(self, instance: int, chance: int) -> None:
        if chance:
            return
        ended = self.run(self.stores[instance].sign_ins.end(self.sign_in.subject, self.sign_in.sid))
        assert (ended is not None) == self.is_signed_in
        self.is_signed_in = False

    @invariant()
    def stored_family_is_the_latest(self) -> None:
        family_id = self.history[-1].grant.family
        for store in self.stores:
            assert self.run(store.grants.get(family_id)) == self.expected()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("is_offline", [False, True], ids=["online", "offline"])
@pytest.mark.parametrize("engine", ["memory", "valkey"])
def test_random_operations_give_one_chain_of_successors(
    engines: Engines, engine: str, is_offline: bool
) -> None:
    clock = Clock()
    engines.empty(engine)
    first = open_state(engines.url(engine), clock)
    second = first if engine == "memory" else open_state(engines.url(engine), clock)

    with runner_of(first, second) as runner:
        run_machine(
            lambda: Rotation(Environment(runner, clock, [first, second]), is_offline),
            examples=50,
            steps=40,
        )
