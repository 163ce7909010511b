"""Random calls to the stores of chat give the same results in memory and in Redis.

Times are multiples of ten seconds, so that the time of a run does not matter.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from broker.chat.model import Presence, Restriction, RestrictionKind
from broker.chat.ports import MEMBER_TTL, ChatStores
from broker.state import StateBackend
from tests.support.differential import Differential, differential
from tests.support.rooms import ALICE, FEW, ROOM, a_conversation, a_member, a_message
from tests.support.servers.redis import Engines
from tests.support.state_machines import run_machine

ROOMS = (ROOM, ALICE.room)
INSTANCES = ("one", "two")

remotes, rooms, instances = st.integers(0, 1), st.sampled_from(ROOMS), st.sampled_from(INSTANCES)
subjects = st.sampled_from(["a", "b", "c"])
offsets = st.integers(-1, 30)


class ChatCalls(RuleBasedStateMachine):
    """Calls on two rooms, and on the conversations of one person.

    epochs: the epochs of each state, in the order of their beginning.
    """

    def __init__(self, states: Differential) -> None:
        super().__init__()
        self.states = states
        self.memory = states.empty()
        self.epochs: tuple[list[str], list[str]] = ([], [])
        self.join(remote=0, room=ROOM, instance="one", names=["a"])

    def compare(self, remote: int, act: Callable[[ChatStores], Awaitable[Any]]) -> None:
        """Call both states, and compare their results."""

        async def call(store: StateBackend) -> Any:
            return await act(store.chat)

        results = self.states.both(self.memory, remote, call)
        expected, result = map(self.normalised, results, self.epochs)
        assert result == expected

    def normalised(self, result: Any, epochs: list[str]) -> Any:
        """Number the epochs, which are random, and sort lists without an order."""
        if isinstance(result, list):
            return sorted(self.normalised(one, epochs) for one in sorted(result))
        if isinstance(result, Presence):
            unordered = {name: sorted(getattr(result, name)) for name in ("joined", "left")}
            return result._replace(instances=sorted(result.instances), **unordered)  # type: ignore[arg-type]
        if hasattr(result, "epoch"):
            if result.epoch not in epochs:
                epochs.append(result.epoch)
            result = result._replace(epoch=epochs.index(result.epoch))
        if hasattr(result, "pending"):
            result = result._replace(pending=sorted(result.pending))
        return result

    @rule(remote=remotes, room=rooms, subject=subjects, number=st.integers(0, 9))
    def say(self, remote: int, room: Any, subject: str, number: int) -> None:
        message = a_message(self.states.clock, str(number), subject)
        self.compare(remote, lambda chat: chat.rooms.append(room, message, retention=FEW))

    @rule(remote=remotes, room=rooms, offset=offsets)
    def delete(self, remote: int, room: Any, offset: int) -> None:
        now = self.states.clock()
        self.compare(
            remote, lambda chat: chat.rooms.delete(room, offset, by="b", at=now, retention=FEW)
        )

    @rule(remote=remotes, room=rooms, after=offsets, before=st.none() | offsets)
    def read(self, remote: int, room: Any, after: int, before: int | None) -> None:
        now = self.states.clock()
        self.compare(
            remote,
            lambda chat: chat.rooms.read(
                room, after=after, before=before, limit=3, now=now, retention=FEW
            ),
        )

    @rule()
    def take_changes(self) -> None:
        async def act(chat: ChatStores) -> object:
            return [change for one in INSTANCES for change in await chat.rooms.changes(one)]

        self.compare(0, act)

    @rule(
        remote=remotes,
        room=rooms,
        subject=subjects,
        kind=st.sampled_from(RestrictionKind),
        seconds=st.sampled_from([0, 10, 60]),
    )
    def restrict(
        self, remote: int, room: Any, subject: str, kind: RestrictionKind, seconds: int
    ) -> None:
        now = self.states.clock()
        restriction = Restriction(kind, now + seconds)

        async def act(chat: ChatStores) -> object:
            pending = await chat.restrictions.put(room, subject, restriction, now=now)
            found = await chat.restrictions.find(room, subject, now=now)
            return sorted(pending), sorted(found)

        self.compare(remote, act)

    @rule(remote=remotes, room=rooms, instance=instances, names=st.lists(subjects, unique=True))
    def join(self, remote: int, room: Any, instance: str, names: list[str]) -> None:
        now = self.states.clock()
        members = [a_member(self.states.clock, one, nickname=f"{now}") for one in names]

        async def act(chat: ChatStores) -> Presence:
            return (await chat.members.refresh(instance, {room: members}, now=now))[room]

        self.compare(remote, act)

    @rule(remote=remotes, room=rooms, instance=instances, names=st.lists(subjects))
    def leave(self, remote: int, room: Any, instance: str, names: list[str]) -> None:
        now = self.states.clock()
        self.compare(remote, lambda chat: chat.members.leave(instance, room, names, now=now))

    @rule(remote=remotes, room=rooms)
    def find_members(self, remote: int, room: Any) -> None:
        now = self.states.clock()

        async def act(chat: ChatStores) -> object:
            page = await chat.members.page(room, now=now)
            members = sorted((one.joined_at, one.subject, one.nickname) for one in page.members)
            return members, page.online, sorted(await chat.members.instances(room, now=now))

        self.compare(remote, act)

    @rule(
        remote=remotes,
        subject=subjects,
        epoch=st.sampled_from(["e1", "e2"]),
        offset=st.integers(1, 9),
        seen=st.integers(0, 9),
        name=st.none() | subjects,
    )
    def touch(
        self, remote: int, subject: str, epoch: str, offset: int, seen: int, name: str | None
    ) -> None:
        conversation = a_conversation(
            self.states.clock, subject, epoch=epoch, offset=offset, seen=seen, name=name
        )

        async def act(chat: ChatStores) -> object:
            conversations = chat.conversations
            pending = await conversations.touch(ALICE, conversation, first=offset, retention=FEW)
            return sorted(pending)

        self.compare(remote, act)

    @rule(remote=remotes, subject=subjects, offset=st.integers(0, 9))
    def see(self, remote: int, subject: str, offset: int) -> None:
        room, now = a_conversation(self.states.clock, subject).room, self.states.clock()

        async def act(chat: ChatStores) -> object:
            await chat.conversations.see(ALICE, room, offset)
            return sorted(await chat.conversations.of(ALICE, now=now))

        self.compare(remote, act)

    @rule(remote=remotes, seconds=st.sampled_from([10, 20, 30, 60, 600, FEW.seconds]))
    def pass_time(self, remote: int, seconds: float) -> None:
        """Members whose time ends are removed before their keys expire, as with heartbeats."""
        self.states.pass_time(min(seconds, MEMBER_TTL))
        for room in ROOMS:
            self.join(remote, room, "one", [])
        if seconds > MEMBER_TTL:
            self.states.pass_time(seconds - MEMBER_TTL)
            for store in (self.memory, self.states.remote[remote]):
                now = self.states.clock()
                self.states.run(store.chat.rooms.trim(now=now, retention=FEW))


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("engine", "examples"), [("valkey", 60), ("cluster", 10)])
def test_random_calls_on_rooms_give_equal_results(
    engines: Engines, engine: str, examples: int
) -> None:
    with differential(engines, engine) as states:
        run_machine(lambda: ChatCalls(states), examples=examples, steps=30)
