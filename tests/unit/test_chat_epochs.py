"""A room whose history has expired begins again: no client takes new entries for known ones."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest

from broker.chat.connections import Connection
from tests.support.chat_instances import ChatCluster, ChatInstance
from tests.support.waiting import eventually

ROOM, RETENTION = "lounge", 5


class Scene(NamedTuple):
    """Alice has the only entry of a room, and Bob is at another instance."""

    cluster: ChatCluster
    one: ChatInstance
    two: ChatInstance
    alice: Connection
    bob: Connection
    epoch: str

    async def say(self, text: str) -> None:
        await self.two.say(self.bob, room=ROOM, id=text, text=text)

    async def expire(self) -> None:
        """Let the room lose its entries, offsets and epoch, and keep its members."""
        self.cluster.clock.time += 2 * RETENTION + 1
        await self.two.parts.trimmer.trim()

    def received(self, event: str) -> list[Any]:
        pushes = self.cluster.server.received.get(self.alice.sid, [])
        return [payload for name, payload in pushes if name == event]


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    cluster = ChatCluster()
    one, two = cluster.start(retention=RETENTION), cluster.start(retention=RETENTION)
    alice, bob = one.connect("alice", "alice"), two.connect("bob", "bob")
    await one.join(alice, room=ROOM)
    await two.join(bob, room=ROOM)
    await two.say(bob, room=ROOM, id="old", text="old")
    await one.settle()
    joined = await one.join(alice, room=ROOM)
    assert (len(joined["messages"]), joined["offset"]) == (1, 1)
    yield Scene(cluster, one, two, alice, bob, joined["epoch"])
    for instance in list(cluster.running):
        await instance.kill()


@pytest.mark.parametrize("offset", [1, 2])
async def test_position_of_an_expired_epoch_is_reset(scene: Scene, offset: int) -> None:
    await scene.expire()
    await scene.say("new")
    await scene.say("newer")

    answer = await scene.one.join(scene.alice, room=ROOM, epoch=scene.epoch, offset=offset)

    assert not answer["recovered"]
    assert answer["epoch"] != scene.epoch
    assert [one["text"] for one in answer["messages"]] == ["new", "newer"]


async def test_position_in_an_emptied_room_is_reset(scene: Scene) -> None:
    await scene.expire()

    answer = await scene.one.join(scene.alice, room=ROOM, epoch=scene.epoch, offset=1)

    assert (answer["recovered"], answer["epoch"], answer["offset"]) == (False, "", 0)


async def test_expired_entries_without_a_gap_are_recovered(scene: Scene) -> None:
    scene.cluster.clock.time += RETENTION + 1

    answer = await scene.one.join(scene.alice, room=ROOM, epoch=scene.epoch, offset=1)

    assert (answer["recovered"], answer["epoch"]) == (True, scene.epoch)


async def test_entry_that_expired_unseen_is_a_gap(scene: Scene) -> None:
    scene.one.parts.chat.disconnect(scene.alice.sid)
    await scene.say("missed")
    scene.cluster.clock.time += RETENTION + 1
    again = scene.one.connect("again", "alice")

    answer = await scene.one.join(again, room=ROOM, epoch=scene.epoch, offset=1)

    assert (answer["recovered"], answer["messages"]) == (False, [])


async def test_member_receives_a_loss_without_notices(scene: Scene) -> None:
    """The new entry has the offset of the last one that was sent."""
    await scene.expire()
    scene.cluster.bus.is_lossy = True
    await scene.say("new")

    await scene.one.parts.changes.sweep()

    await eventually(lambda: scene.received("chat-closed"))
    assert scene.received("chat-closed") == [{"room": ROOM, "reason": "lost"}]
