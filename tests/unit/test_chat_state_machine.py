"""A property of chat: all members see the entries of a room in one order, each exactly once.

Two instances share a state whose calls take some turns of the loop. Members join, say, delete,
disconnect and recover; instances are killed; notices are lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from broker.chat.connections import Connection
from broker.errors import BrokerError
from tests.support.chat_instances import ChatCluster, ChatInstance

ROOM = "lounge"
PEOPLE = ("alice", "bob", "carol")
people = st.sampled_from(PEOPLE)
instances = st.integers(0, 1)


def position_of(entry: Any) -> int:
    return int(entry["entry"] if "entry" in entry else entry["offset"])


class MemberView:
    """The list of one client of a person. entries: in the order in which they came."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.entries: list[Any] = []
        self.epoch = ""
        self.offset = 0
        self.instance: ChatInstance | None = None
        self.connection: Connection | None = None
        self.said = 0

    def accept(self, joined: Any) -> None:
        if not joined["recovered"]:
            self.entries = []
        self.entries += joined["messages"]
        self.epoch, self.offset = joined["epoch"], joined["offset"]

    def read(self, pushes: list[tuple[str, Any]]) -> None:
        for event, payload in pushes:
            if event in ("chat-message", "chat-deleted"):
                self.entries.append(payload)
                self.offset = max(self.offset, position_of(payload))
            assert event != "chat-closed"

    def positions(self) -> list[int]:
        return [position_of(one) for one in self.entries]


class ChatMachine(RuleBasedStateMachine):
    @initialize(seed=st.integers(0, 2**16))
    def start(self, seed: int) -> None:
        self.runner = asyncio.Runner()
        self.runner.run(self._start(seed))

    async def _start(self, seed: int) -> None:
        self.cluster = ChatCluster(seed)
        self.instances = [self.cluster.start(), self.cluster.start()]
        self.views = {subject: MemberView(subject) for subject in PEOPLE}
        self.sids = 0

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.runner.run(self._stop())
            self.runner.close()

    async def _stop(self) -> None:
        for instance in self.instances:
            await instance.kill()

    @rule(subject=people, index=instances, others=st.lists(people, max_size=2))
    def join(self, subject: str, index: int, others: list[str]) -> None:
        """Connect and join, or recover, while others talk."""
        self.runner.run(self._together(self._join(subject, index), *map(self._talk, others)))

    @rule(subjects=st.lists(people, min_size=1, max_size=4))
    def say(self, subjects: list[str]) -> None:
        self.runner.run(self._together(*map(self._say, subjects)))

    @rule(subject=people, back=st.integers(0, 3), other=people)
    def delete(self, subject: str, back: int, other: str) -> None:
        self.runner.run(self._together(self._delete(subject, back), self._say(other)))

    @rule(subject=people)
    def disconnect(self, subject: str) -> None:
        self.runner.run(self._disconnect(self.views[subject]))

    @rule(index=instances, has_expired=st.booleans())
    def kill(self, index: int, has_expired: bool) -> None:
        self.runner.run(self._kill(index))
        self.cluster.clock.time += 31 if has_expired else 1

    @rule(subjects=st.lists(people, min_size=1, max_size=2))
    def cut_off(self, subjects: list[str]) -> None:
        """Let the members of all instances expire, and talk."""
        self.cluster.clock.time += 31
        self.runner.run(self._together(*map(self._say, subjects)))

    @rule(is_lossy=st.booleans())
    def lose_notices(self, is_lossy: bool) -> None:
        self.cluster.bus.is_lossy = is_lossy

    @invariant()
    def members_see_every_entry_once_in_order(self) -> None:
        if hasattr(self, "runner"):
            self.runner.run(self._check())

    async def _together(self, *acts: Coroutine[Any, Any, None]) -> None:
        await asyncio.gather(*acts)

    async def _join(self, subject: str, index: int) -> None:
        view = self.views[subject]
        await self._disconnect(view)
        self.sids += 1
        view.instance = self.instances[index]
        view.connection = connection = view.instance.connect(f"sid-{self.sids}", subject)
        fields = {"epoch": view.epoch, "offset": view.offset}
        view.accept(await view.instance.join(connection, room=ROOM, **fields))

    async def _say(self, subject: str) -> None:
        view = self.views[subject]
        if view.connection is None or view.instance is None:
            return
        if ROOM in view.connection.rooms:
            view.said += 1
            fields = {"id": str(view.said), "text": f"{subject} {view.said}"}
            await view.instance.say(view.connection, room=ROOM, **fields)

    async def _talk(self, subject: str) -> None:
        for _ in range(4):
            await self._say(subject)

    async def _delete(self, subject: str, back: int) -> None:
        view = self.views[subject]
        if view.connection is None or view.instance is None or view.offset <= back:
            return
        try:
            await view.instance.delete(view.connection, room=ROOM, offset=view.offset - back)
        except BrokerError:
            return  # the message of another person, or a deletion

    async def _disconnect(self, view: MemberView) -> None:
        if view.connection is not None and view.instance is not None:
            await self._read(view)
            view.instance.parts.chat.disconnect(view.connection.sid)
            view.connection = None

    async def _kill(self, index: int) -> None:
        killed = self.instances[index]
        for view in self.views.values():
            if view.instance is killed and view.connection is not None:
                await self._read(view)
                view.connection = None
        await killed.kill()
        self.instances[index] = self.cluster.start()

    async def _read(self, view: MemberView) -> None:
        assert view.connection is not None
        view.read(self.cluster.server.received.pop(view.connection.sid, []))

    async def _check(self) -> None:
        for instance in self.instances:
            await instance.settle()
        stored = await self._stored()
        deleted = {one["offset"] for one in stored if "entry" in one}
        expected = [position_of(one) for one in stored]
        for view in self.views.values():
            if view.connection is not None:
                await self._read(view)
                seen = view.positions()
                assert seen == sorted(set(seen)), view.subject
                visible = [one for one in seen if one not in deleted]
                assert visible == [one for one in expected if not seen or one >= seen[0]]

    async def _stored(self) -> list[Any]:
        """Return the entries as a client gets them that joins now."""
        self.sids += 1
        instance = self.instances[0]
        reader = instance.connect(f"sid-{self.sids}", "reader")
        joined = await instance.join(reader, room=ROOM)
        instance.parts.chat.disconnect(reader.sid)
        messages: list[Any] = joined["messages"]
        return messages


ChatMachine.TestCase.settings = settings(
    max_examples=30,
    stateful_step_count=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
test_members_see_every_entry_once = ChatMachine.TestCase
