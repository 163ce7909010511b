"""Tests of presence, sign-outs and losses, at instances of chat without a server."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from broker.chat.blocked import REREAD_INTERVAL
from broker.chat.connections import Connection
from broker.chat.errors import ChatDenied, InvalidResume, NotAMember
from broker.chat.ports import MEMBER_TTL
from broker.chat.schema_api import RestrictRequest
from tests.support.chat_instances import ChatCluster, ChatInstance

ROOM = "lounge"


@pytest.fixture
async def cluster() -> AsyncIterator[ChatCluster]:
    cluster = ChatCluster()
    yield cluster
    for instance in list(cluster.running):
        await instance.kill()


async def joined(instance: ChatInstance, subject: str, room: str = ROOM) -> Connection:
    connection = instance.connect(f"{instance.name} {subject} {room}", subject)
    await instance.join(connection, room=room)
    return connection


def received(cluster: ChatCluster, connection: Connection, event: str) -> list[Any]:
    """Return the pushes of an event, and discard all others."""
    pushes = cluster.server.received.pop(connection.sid, [])
    return [payload for name, payload in pushes if name == event]


async def test_members_of_a_killed_instance_leave(cluster: ChatCluster) -> None:
    one, two = cluster.start(), cluster.start()
    alice, _ = await joined(one, "alice"), await joined(two, "bob")
    await two.kill()

    cluster.clock.time += MEMBER_TTL - 1
    await one.settle()
    assert received(cluster, alice, "chat-left") == []
    cluster.clock.time += 2
    await one.settle()

    assert received(cluster, alice, "chat-left") == [{"room": ROOM, "subject": "bob"}]


async def test_crowd_sees_numbers_in_place_of_names(cluster: ChatCluster) -> None:
    instance = cluster.start()
    alice = await joined(instance, "alice")
    for number in range(101):
        await joined(instance, f"person-{number}")
    await instance.settle()
    cluster.server.received.clear()

    late = instance.connect("late", "late")
    answer = await instance.join(late, room=ROOM)
    await instance.settle()

    assert (answer["online"], len(answer["members"])) == (103, 100)
    pushes = cluster.server.received[alice.sid]
    assert pushes == [("chat-online", {"room": ROOM, "online": 103})]


async def test_shrinking_crowd_gets_its_number(cluster: ChatCluster) -> None:
    instance = cluster.start()
    alice = await joined(instance, "alice")
    others = [await joined(instance, f"person-{number}") for number in range(101)]
    await instance.settle()
    cluster.server.received.clear()

    for other in others[:90]:
        instance.parts.chat.disconnect(other.sid)
    await instance.settle()

    assert received(cluster, alice, "chat-online")[-1] == {"room": ROOM, "online": 12}


async def test_join_answer_precedes_the_pushes_of_its_room(cluster: ChatCluster) -> None:
    instance = cluster.start()
    alice = await joined(instance, "alice")
    bob = instance.connect("bob", "bob")
    says = [
        instance.say(alice, room=ROOM, id=str(number), text=str(number)) for number in range(20)
    ]

    async def join() -> Any:
        answer = await instance.join(bob, room=ROOM)
        assert "chat-message" not in dict(cluster.server.received.get("bob", []))
        return answer

    answer, *_ = await asyncio.gather(join(), *says)
    await instance.settle()

    pushed = [one["offset"] for one in received(cluster, bob, "chat-message")]
    in_answer = [one["offset"] for one in answer["messages"]]
    assert in_answer + pushed == list(range(1, 21))


async def test_full_buffer_of_a_room_reports_a_loss(cluster: ChatCluster) -> None:
    """The instance misses more entries than the room keeps."""
    instance, other = cluster.start(history=100), cluster.start(history=100)
    alice, bob = await joined(instance, "alice"), await joined(other, "bob")
    cluster.bus.is_lossy = True

    for number in range(150):
        await other.say(bob, room=ROOM, id=str(number), text="x")
    await instance.settle()

    assert received(cluster, alice, "chat-closed") == [{"room": ROOM, "reason": "lost"}]
    answer = await instance.join(alice, room=ROOM, epoch="any", offset=1)
    assert (len(answer["messages"]), answer["recovered"]) == (100, False)


async def test_direct_messages_survive_lost_notices(cluster: ChatCluster) -> None:
    one, two = cluster.start(), cluster.start()
    alice, bob = one.connect("alice", "alice"), two.connect("bob", "bob")
    await one.settle()
    await two.settle()
    cluster.bus.is_lossy = True

    for number in range(3):
        await one.say(alice, to="bob", id=str(number), text=str(number))
    await two.settle()
    await two.settle()

    assert [one["text"] for one in received(cluster, bob, "chat-message")] == ["0", "1", "2"]


async def test_ended_login_closes_the_connection(cluster: ChatCluster) -> None:
    instance = cluster.start()
    alice = await joined(instance, "alice")
    alice.session = cluster.session_of("alice", phone_session="ended")

    await instance.parts.watch.check(alice)

    assert cluster.server.received[alice.sid][-2:] == [
        ("chat-closed", {"room": ROOM, "reason": "session_ended"}),
        ("disconnect", None),
    ]


async def test_disconnect_leaves_nothing_behind(cluster: ChatCluster) -> None:
    instance = cluster.start()
    alice, bob = await joined(instance, "alice"), await joined(instance, "bob")
    await instance.say(alice, to="bob", id="1", text="psst")
    await instance.join(bob, to="alice")
    await instance.settle()

    for connection in (alice, bob):
        instance.parts.chat.disconnect(connection.sid)
    await instance.settle()

    assert (len(instance.parts.rooms), len(instance.parts.connections)) == (0, 0)
    assert instance.parts.rooms._lanes == {}


async def test_refused_join_is_invisible_to_members(cluster: ChatCluster) -> None:
    instance = cluster.start()
    mod, alice = await joined(instance, "mod"), instance.connect("alice", "alice")
    body = RestrictRequest(room=ROOM, subject="alice", seconds=60)
    await instance.parts.api.kick(mod, body)
    await instance.settle()

    with pytest.raises(ChatDenied):
        await instance.join(alice, room=ROOM)
    await instance.settle()

    pushes = cluster.server.received[mod.sid]
    assert [name for name, _ in pushes] == ["chat-ready"]
    again = await instance.join(mod, room=ROOM)
    assert [one["subject"] for one in again["members"]] == ["mod"]


async def test_blocked_user_is_disconnected(cluster: ChatCluster) -> None:
    instance = cluster.start()
    alice, bob = await joined(instance, "alice"), await joined(instance, "bob")
    cluster.ended.subjects.append("alice")

    await instance.parts.watch.check_blocked()

    assert ("disconnect", None) in cluster.server.received[alice.sid]
    assert ("disconnect", None) not in cluster.server.received[bob.sid]
    assert not await instance.parts.sessions.is_active(alice.session)


async def test_unblocked_user_may_chat_again(cluster: ChatCluster) -> None:
    parts = cluster.start().parts
    cluster.ended.subjects.append("alice")
    await parts.watch.check_blocked()
    cluster.ended.unblocked.add("alice")

    cluster.clock.time += REREAD_INTERVAL
    await parts.watch.check_blocked()

    assert await parts.sessions.is_active(cluster.session_of("alice"))


async def test_connection_closed_during_join_leaves_no_member(cluster: ChatCluster) -> None:
    instance = cluster.start()
    alice = instance.connect("alice", "alice")

    joining = asyncio.create_task(instance.join(alice, room=ROOM))
    await asyncio.sleep(0)
    instance.parts.chat.disconnect(alice.sid)
    with pytest.raises(NotAMember):
        await joining
    await instance.settle()

    assert len(instance.parts.rooms) == 0


async def test_room_ends_with_its_last_refused_join(cluster: ChatCluster) -> None:
    instance = cluster.start()
    alice, bob = await joined(instance, "alice"), instance.connect("bob", "bob")

    joining = asyncio.create_task(instance.join(bob, room=ROOM))
    await asyncio.sleep(0)
    for connection in (alice, bob):
        instance.parts.chat.disconnect(connection.sid)
    await asyncio.wait([joining])
    await instance.settle()

    assert len(instance.parts.rooms) == 0


async def test_refused_resume_deletes_its_session(cluster: ChatCluster) -> None:
    sessions, store = cluster.start().parts.sessions, cluster.stores.sessions
    secret_hash = hashlib.sha256(b"Asecret").digest()
    await store.put("A", secret_hash, cluster.session_of("alice", phone_session="ended"))

    with pytest.raises(InvalidResume):
        await sessions.resume("Asecret", None)

    assert await store.find("A", secret_hash) is None
