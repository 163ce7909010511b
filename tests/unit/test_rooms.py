"""Tests of Socket.IO rooms, with the manager of python-socketio and with that of the broker."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import socketio
from socketio import packet

from broker.infrastructure.transport.socketio.rooms import RoomManager

MANAGERS = {"stock": socketio.AsyncManager, "own": RoomManager}


class Engine:
    """Names sockets, and records the messages for each."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []
        self._numbers = itertools.count()

    def generate_id(self) -> str:
        return f"sid-{next(self._numbers)}"

    def send_now(self, sids: list[str], messages: list[str]) -> None:
        self.sent += [(sid, message) for sid in sids for message in messages]


class Server:
    """The part of python-socketio's server that a manager calls."""

    packet_class = packet.Packet
    logger = socketio.AsyncServer().logger

    def __init__(self) -> None:
        self.eio = Engine()

    async def _send_eio_packet(self, eio_sid: str, sent: Any) -> None:
        self.eio.send_now([eio_sid], [sent.data])

    async def _send_packet(self, eio_sid: str, sent: packet.Packet) -> None:
        encoded = sent.encode()
        self.eio.send_now([eio_sid], encoded if isinstance(encoded, list) else [encoded])


@pytest.fixture(params=MANAGERS)
def manager(request: pytest.FixtureRequest) -> Any:
    manager = MANAGERS[request.param]()
    manager.set_server(Server())
    return manager


async def join(manager: Any, eio_sid: str, namespace: str = "/") -> str:
    sid: str = await manager.pre_connect(eio_sid, namespace)
    assert await manager.connect(sid, namespace) == sid
    return sid


async def receivers(manager: Any, event: str = "e", data: Any = None, **target: Any) -> list[str]:
    """Return the Engine.IO ids of the sockets that receive an event. The message is the same."""
    engine = manager.server.eio
    await manager.emit(event, data, "/", **target)
    found, engine.sent = engine.sent, []
    assert len({message for _, message in found}) <= 1
    return sorted(sid for sid, _ in found)


def stored_tables(manager: Any) -> list[Any]:
    """Return the tables of a manager that are not empty."""
    tables = [vars(manager)[name] for name in ("rooms", "callbacks", "pending_connect")]
    return [table for table in [*tables, vars(manager).get("_namespaces")] if table]


async def test_socket_is_connected_after_connect_only(manager: Any) -> None:
    sid = await manager.pre_connect("a", "/")
    assert manager.is_pre_connected(sid, "/")
    assert not manager.is_connected(sid, "/")

    await manager.connect(sid, "/")

    assert manager.is_connected(sid, "/")
    assert not manager.is_pre_connected(sid, "/")


async def test_second_join_of_a_namespace_is_refused(manager: Any) -> None:
    await join(manager, "a")

    assert await manager.pre_connect("a", "/") is None


async def test_socket_is_found_by_either_id(manager: Any) -> None:
    sid, other = await join(manager, "a"), await join(manager, "a", "/other")

    assert sid != other
    assert manager.sid_from_eio_sid("a", "/") == sid
    assert manager.sid_from_eio_sid("a", "/other") == other
    assert manager.eio_sid_from_sid(sid, "/") == "a"
    assert sorted(manager.get_namespaces()) == ["/", "/other"]


async def test_unknown_socket_is_not_found(manager: Any) -> None:
    await join(manager, "a")

    for namespace in ("/", "/nowhere"):
        assert manager.sid_from_eio_sid("b", namespace) is None
        assert manager.eio_sid_from_sid("unknown", namespace) is None
        assert not manager.is_connected("unknown", namespace)
        assert not manager.is_pre_connected("unknown", namespace)
        assert manager.get_rooms("unknown", namespace) == []
        assert list(manager.get_participants(namespace, "nowhere")) == []


async def test_disconnecting_socket_is_known_but_not_connected(manager: Any) -> None:
    sid = await join(manager, "a")

    assert manager.pre_disconnect(sid, "/") == "a"

    assert not manager.is_connected(sid, "/")
    assert manager.sid_from_eio_sid("a", "/") == sid


async def test_manager_stores_no_data_of_disconnected_sockets(manager: Any) -> None:
    sid = await join(manager, "a")
    await manager.enter_room(sid, "/", "room")
    await manager.emit("e", None, "/", to=sid, callback=print)
    manager.pre_disconnect(sid, "/")

    await manager.disconnect(sid, "/")
    await manager.disconnect(sid, "/")

    assert stored_tables(manager) == []


async def test_socket_is_in_its_private_room(manager: Any) -> None:
    sid = await join(manager, "a")
    await join(manager, "b")

    assert manager.get_rooms(sid, "/") == [sid]
    assert await receivers(manager, to=sid) == ["a"]
    assert await receivers(manager, room=sid) == ["a"]


async def test_room_event_reaches_all_members_except_skipped_ones(manager: Any) -> None:
    a, b = await join(manager, "a"), await join(manager, "b")
    await join(manager, "c")
    await manager.enter_room(a, "/", "room")
    await manager.enter_room(b, "/", "room")

    assert await receivers(manager, room="room") == ["a", "b"]
    assert await receivers(manager, room="room", skip_sid=a) == ["b"]
    assert await receivers(manager, room="room", skip_sid=[a, b]) == []
    assert await receivers(manager, room="nowhere") == []


async def test_broadcast_reaches_the_whole_namespace(manager: Any) -> None:
    for name in "abc":
        await join(manager, name)
    await join(manager, "d", "/other")

    assert await receivers(manager) == ["a", "b", "c"]


async def test_member_of_two_rooms_receives_an_event_once(manager: Any) -> None:
    a, b = await join(manager, "a"), await join(manager, "b")
    await manager.enter_room(a, "/", "one")
    await manager.enter_room(a, "/", "two")
    await manager.enter_room(b, "/", "two")

    assert await receivers(manager, room=["one", "two"]) == ["a", "b"]
    assert await receivers(manager, room=["one", b]) == ["a", "b"]


async def test_former_room_member_receives_no_room_event(manager: Any) -> None:
    sid = await join(manager, "a")
    await manager.enter_room(sid, "/", "room")

    await manager.leave_room(sid, "/", "room")
    await manager.leave_room(sid, "/", "room")

    assert await receivers(manager, room="room") == []
    assert manager.get_rooms(sid, "/") == [sid]
    assert await receivers(manager, to=sid) == ["a"]


async def test_closed_room_is_empty(manager: Any) -> None:
    sid = await join(manager, "a")
    await manager.enter_room(sid, "/", "room")

    await manager.close_room("room", "/")
    await manager.close_room("room", "/")

    assert await receivers(manager, room="room") == []


async def test_private_room_is_closed_to_other_sockets(manager: Any) -> None:
    a, b = await join(manager, "a"), await join(manager, "b")

    with pytest.raises(ValueError, match="cannot enter a sid room"):
        await manager.enter_room(a, "/", b)
    with pytest.raises(ValueError, match="cannot close a sid room"):
        await manager.close_room(b, "/")
    await manager.enter_room(a, "/", a)

    assert manager.get_rooms(a, "/") == [a]


async def test_unconnected_socket_cannot_enter_a_room(manager: Any) -> None:
    with pytest.raises(ValueError, match="not connected"):
        await manager.enter_room("unknown", "/", "room")
    await join(manager, "a")
    with pytest.raises((ValueError, KeyError)):
        await manager.enter_room("unknown", "/", "other")

    assert await receivers(manager, room="other") == []


@pytest.mark.parametrize(
    ("data", "encoded"),
    [
        (None, '2["e"]'),
        ("x", '2["e","x"]'),
        ([1, 2], '2["e",[1,2]]'),
        ((1, 2), '2["e",1,2]'),
        ((), '2["e"]'),
        ({"a": None}, '2["e",{"a":null}]'),
    ],
)
async def test_event_carries_its_arguments(manager: Any, data: Any, encoded: str) -> None:
    sid = await join(manager, "a")

    await manager.emit("e", data, "/", to=sid)

    assert manager.server.eio.sent == [("a", encoded)]


async def test_binary_follows_its_event(manager: Any) -> None:
    sid = await join(manager, "a")

    await manager.emit("e", b"x", "/", to=sid)

    placeholder = '51-["e",{"_placeholder":true,"num":0}]'
    assert manager.server.eio.sent == [("a", placeholder), ("a", b"x")]


async def test_each_acknowledgement_reaches_its_callback(manager: Any) -> None:
    a, b = await join(manager, "a"), await join(manager, "b")
    answers: list[Any] = []
    for sid in (a, a, b):
        await manager.emit("e", sid, "/", to=sid, callback=lambda *answer: answers.append(answer))

    assert [message.partition("[")[0] for _, message in manager.server.eio.sent] == [
        "21",
        "22",
        "21",
    ]
    await manager.trigger_callback(a, 2, ["second"])
    await manager.trigger_callback(a, 2, ["twice"])
    await manager.trigger_callback(b, 1, [])
    await manager.trigger_callback("unknown", 1, ["stray"])

    assert answers == [("second",), ()]
