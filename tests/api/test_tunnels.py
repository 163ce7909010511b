"""Tunnels: a broker with a real backend and real clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from broker.infrastructure.transport.rate_limit import NEW_SOCKET_FRAMES
from broker.infrastructure.transport.websocket import frames
from tests.support.builders import StartBroker
from tests.support.tunnel_client import (
    TunnelClient,
    TunnelWorld,
    reply_with,
    respond,
    socket_url,
    tunnel_world,
)
from tests.support.waiting import eventually
from tests.support.websocket_client import masked, more, raw_transport, text

PING = masked(frames.FIN | frames.PING)


@pytest.fixture
async def world(start_broker: StartBroker) -> AsyncIterator[TunnelWorld]:
    async with tunnel_world(start_broker) as world:
        yield world


async def test_ticket_opens_tunnel(world: TunnelWorld) -> None:
    created = await world.server.create(subject="user-7", meta={"room": 7})

    client = await TunnelClient.open(world.http, created["url"])

    [opening] = await world.backend.received("tunnel.open")
    assert opening.id == f"{created['tunnel_id']}.1"
    assert opening.data["meta"] == {"room": 7}
    assert (opening.data["subject"], opening.data["resumed"]) == ("user-7", False)
    assert opening.data["ip"] == "127.0.0.1"
    assert client.opened == {
        "type": "open",
        "tunnel_id": created["tunnel_id"],
        "resume": client.opened["resume"],
        "epoch": client.opened["epoch"],
        "offset": 0,
        "recovered": True,
        "ping_every": 25,
    }
    assert len(client.opened["resume"]) == 43


async def test_message_reaches_backend_and_reply_reaches_client(world: TunnelWorld) -> None:
    world.backend.answers["tunnel.message"] = reply_with(reply={"ok": True})
    client = await world.open()

    await client.send("message", id="m1", data={"act": "play"})

    assert await client.receive() == {"type": "reply", "id": "m1", "data": {"ok": True}}
    [message] = world.backend.of_type("tunnel.message")
    assert (message.data["seq"], message.data["id"]) == (2, "m1")
    assert message.data["data"] == {"act": "play"}


async def test_pushes_reach_client_in_order(world: TunnelWorld) -> None:
    client = await world.open()

    answers = [await world.server.push(client.tunnel_id, {"n": n}) for n in range(20)]

    assert [answer.body["offset"] for answer in answers] == list(range(1, 21))
    assert await client.messages(20) == [{"n": n} for n in range(20)]


async def test_push_reports_delivered_kept_and_unknown(world: TunnelWorld) -> None:
    one, two = await world.open(subject="a"), await world.open(subject="a", meta={})
    away = await world.open()
    await world.server.call("PATCH", f"/tunnels/{two.tunnel_id}", groups=["g"])
    await away.websocket.close()
    await world.is_away(away.tunnel_id)
    unknown = "A" * 22

    answer = await world.server.call(
        "POST",
        "/tunnels/push",
        messages=[
            {"to": {"subjects": ["a"]}, "data": 1},
            {"to": {"groups": ["g"], "tunnel_ids": [two.tunnel_id]}, "data": 2},
            {"to": {"tunnel_ids": [away.tunnel_id, unknown]}, "data": 3},
        ],
    )

    assert answer.body["results"] == [
        {"delivered": 2, "kept": 0, "unknown": []},
        {"delivered": 1, "kept": 0, "unknown": []},
        {"delivered": 0, "kept": 1, "unknown": [unknown]},
    ]
    assert await one.messages(1) == [1]
    assert await two.messages(2) == [1, 2]


async def test_repeated_push_id_is_stored_once(world: TunnelWorld) -> None:
    client = await world.open()

    first = await world.server.push(client.tunnel_id, "a", id="x")
    again = await world.server.push(client.tunnel_id, "a", id="x")
    last = await world.server.push(client.tunnel_id, "b")

    assert (first.body, again.body, last.body) == ({"offset": 1}, {"offset": 1}, {"offset": 2})
    assert await client.messages(2) == ["a", "b"]


async def test_resume_replays_missed_messages(world: TunnelWorld) -> None:
    client = await world.open()
    await world.server.push(client.tunnel_id, 1)
    assert await client.messages(1) == [1]
    await client.websocket.close()
    await world.is_away(client.tunnel_id)
    await world.server.push(client.tunnel_id, 2)

    resumed = await world.resume(client, offset=1)

    assert (resumed.opened["offset"], resumed.opened["recovered"]) == (1, True)
    assert await resumed.messages(1) == [2]
    opening = (await world.backend.received("tunnel.open", 2))[1]
    assert (opening.data["resumed"], opening.data["seq"]) == (True, 2)


async def test_resume_replaces_former_socket(world: TunnelWorld) -> None:
    client = await world.open()

    resumed = await world.resume(client)
    await world.server.push(client.tunnel_id, "x")

    assert await resumed.messages(1) == ["x"]
    assert await client.closed() == 4004


async def test_resume_after_acknowledged_messages_is_not_recovered(world: TunnelWorld) -> None:
    client = await world.open()
    for n in range(3):
        await world.server.push(client.tunnel_id, n)
    await client.messages(3)
    await client.send("ack", offset=2)
    await client.websocket.close()

    resumed = client

    async def resumed_offset() -> bool:
        nonlocal resumed
        resumed = await world.resume(client, offset=0)
        return bool(resumed.opened["offset"] == 2)

    await eventually(resumed_offset)

    assert (resumed.opened["offset"], resumed.opened["recovered"]) == (2, False)
    assert await resumed.messages(1) == [2]


async def test_resume_with_unknown_offset_begins_an_epoch(world: TunnelWorld) -> None:
    client = await world.open()
    await world.server.push(client.tunnel_id, "x")

    resumed = await world.resume(client, offset=9)

    assert resumed.opened["recovered"] is False
    assert resumed.opened["epoch"] != client.opened["epoch"]
    assert await resumed.messages(1) == ["x"]


@pytest.mark.parametrize("field", ["tunnel_id", "resume"])
async def test_resume_with_wrong_secret_is_refused(world: TunnelWorld, field: str) -> None:
    client, other = await world.open(), await world.open()
    client.opened[field] = other.opened[field]

    refused = await world.resume(client)

    assert refused.opened == {"type": "close", "code": 4001, "reason": "invalid_grant"}
    assert await refused.closed() == 4001


async def test_ticket_is_used_once(world: TunnelWorld) -> None:
    created = await world.server.create()

    clients = await asyncio.gather(
        *(TunnelClient.connect(world.http, created["url"]) for _ in range(100))
    )
    first = await asyncio.gather(*(client.receive() for client in clients))

    assert sorted(frame.get("code", 0) for frame in first) == [0] + [4001] * 99
    assert len(world.backend.of_type("tunnel.open")) == 1


async def test_unknown_ticket_is_refused_after_the_upgrade(world: TunnelWorld) -> None:
    for ticket in ("A" * 43, "x", "%00", "a" * 5000):
        client = await TunnelClient.connect(world.http, f"{socket_url(world.broker)}/{ticket}")

        assert (await client.receive())["code"] == 4001
        assert await client.closed() == 4001


@pytest.mark.parametrize("status", [401, 403])
async def test_backend_refuses_tunnel(world: TunnelWorld, status: int) -> None:
    world.backend.answers["tunnel.open"] = respond(status, {})
    created = await world.server.create()

    client = await TunnelClient.connect(world.http, created["url"])

    assert (await client.receive())["code"] == 4003
    await client.closed()
    assert (await world.server.read(f"/tunnels/{created['tunnel_id']}")).status == 410
    assert world.backend.of_type("tunnel.close") == []


@pytest.mark.parametrize("status", [404, 500, 302])
async def test_failed_backend_gives_temporary_error(world: TunnelWorld, status: int) -> None:
    world.backend.answers["tunnel.open"] = respond(status, None)
    created = await world.server.create()

    client = await TunnelClient.connect(world.http, created["url"])

    assert (await client.receive())["code"] == 1013


async def test_answer_to_open_sets_fields(world: TunnelWorld) -> None:
    world.backend.answers["tunnel.open"] = reply_with(meta={"a": 1}, groups=["g"], subject="s")

    client = await world.open()

    view = (await world.server.read(f"/tunnels/{client.tunnel_id}")).body
    assert (view["meta"], view["groups"], view["subject"]) == ({"a": 1}, ["g"], "s")
    assert (view["state"], view["offset"]) == ("open", 0)
    listed = (await world.server.read("/tunnels", group="g")).body["tunnels"]
    assert [one["tunnel_id"] for one in listed] == [client.tunnel_id]


async def test_message_after_edit_has_new_meta(world: TunnelWorld) -> None:
    client = await world.open()
    await world.server.call("PATCH", f"/tunnels/{client.tunnel_id}", meta={"v": 2})

    await client.send("message", data="x")

    [message] = await world.backend.received("tunnel.message")
    assert message.data["meta"] == {"v": 2}


async def test_client_ends_tunnel_after_its_messages(world: TunnelWorld) -> None:
    client = await world.open()

    await client.send("message", data="last")
    await client.send("close")

    [closing] = await world.backend.received("tunnel.close")
    assert [one.type for one in world.backend.callbacks[1:]] == ["tunnel.message", "tunnel.close"]
    assert {name: closing.data[name] for name in ("seq", "code", "by")} == {
        "seq": 3,
        "code": 1000,
        "by": "client",
    }
    assert (await world.server.push(client.tunnel_id, "x")).body["error"] == "unknown_tunnel"
    assert await client.closed() == 1000


async def test_backend_ends_tunnel_after_its_pushes(world: TunnelWorld) -> None:
    client = await world.open()
    await world.server.push(client.tunnel_id, "bye")

    ended = await world.server.call("DELETE", f"/tunnels/{client.tunnel_id}", reason="over")

    assert ended.status == 204
    assert await client.messages(1) == ["bye"]
    assert await client.receive() == {"type": "close", "code": 4010, "reason": "over"}
    assert await client.closed() == 4010
    [closing] = await world.backend.received("tunnel.close")
    assert (closing.data["by"], closing.data["code"], closing.data["reason"]) == (
        "server",
        4010,
        "over",
    )


async def test_answer_to_message_ends_tunnel(world: TunnelWorld) -> None:
    world.backend.answers["tunnel.message"] = reply_with(
        reply=1, close={"code": 4321, "reason": "enough"}
    )
    client = await world.open()

    await client.send("message", id="m", data=None)

    assert (await client.receive())["data"] == 1
    assert await client.closed() == 4321
    await world.backend.received("tunnel.close")


async def test_refused_message_is_reported_to_client(world: TunnelWorld) -> None:
    world.backend.answers["tunnel.message"] = respond(
        422, {"error": "no_such_hand", "error_description": "use rock"}
    )
    client = await world.open()

    await client.send("message", id="m", data=None)

    assert await client.receive() == {
        "type": "reply",
        "id": "m",
        "error": "no_such_hand",
        "error_description": "use rock",
    }


async def test_repeated_message_gets_stored_reply(world: TunnelWorld) -> None:
    world.backend.answers["tunnel.message"] = reply_with(reply="once")
    client = await world.open()
    await client.send("message", id="m", data=1)
    first = await client.receive()

    await client.send("message", id="m", data=1)

    assert await client.receive() == first
    assert len(world.backend.of_type("tunnel.message")) == 1


async def test_ping_is_answered(world: TunnelWorld) -> None:
    client = await world.open()

    await client.send("ping")

    assert await client.receive() == {"type": "pong"}


INVALID_FRAMES = [
    "",
    "[]",
    "null",
    "{",
    "{}",
    '{"type": 7}',
    '{"type": "unknown"}',
    '{"type": "resume"}',
    '{"type": "message"}',
    '{"type": "message", "data": }',
    '{"type": "message", "id": 7, "data": 1}',
    '{"type": "message", "data": 1e999}',
    '{"type": "message", "data": "\\ud800"}',
    '{"type": "message", "data": ' + "[" * 20_000 + "]" * 20_000 + "}",
    '{"type": "message", "data": 1, "id": "' + "x" * 65 + '"}',
    '{"type": "ack", "offset": -1}',
    '{"type": "ack", "offset": 99999999999999999999}',
    '{"type": "ack", "offset": "1"}',
]


async def test_invalid_frame_closes_socket(world: TunnelWorld) -> None:
    clients = await asyncio.gather(*(world.open() for _ in INVALID_FRAMES))

    for client, frame in zip(clients, INVALID_FRAMES, strict=True):
        await client.websocket.send_str(frame)

    codes = [await client.closed() for client in clients]
    assert dict(zip(INVALID_FRAMES, codes, strict=True)) == dict.fromkeys(INVALID_FRAMES, 4002)
    for client in clients:
        await world.is_away(client.tunnel_id)


async def test_binary_frame_closes_socket(world: TunnelWorld) -> None:
    client = await world.open()

    await client.websocket.send_bytes(b"{}")

    assert await client.closed() == 4002


async def test_frame_over_limit_closes_socket(world: TunnelWorld) -> None:
    client = await world.open()

    await client.send("message", data="x" * 65_536)

    assert await client.closed() == 1009


async def test_flood_of_messages_closes_socket(world: TunnelWorld) -> None:
    client = await world.open()

    for _ in range(100):
        await client.send("message", data=None)

    assert await client.closed() == 4029


FLOODS = {
    "WebSocket pings": PING * 2_000,
    "WebSocket pongs": masked(frames.FIN | frames.PONG) * 2_000,
    "empty fragments": text(b"{", fin=False) + more(b"", fin=False) * 2_000,
    "pings": text(b'{"type":"ping"}') * 2_000,
    "acknowledgements": text(b'{"type":"ack","offset":0}') * 2_000,
}
"""Frames that are not messages."""


@pytest.mark.parametrize("flood", FLOODS)
async def test_flood_of_other_frames_closes_socket(world: TunnelWorld, flood: str) -> None:
    client = await world.open()

    raw_transport(client.websocket).write(FLOODS[flood])

    assert await client.closed() == 4029
    await world.is_away(client.tunnel_id)


async def test_client_without_tunnel_may_send_few_frames(world: TunnelWorld) -> None:
    client = await TunnelClient.connect(world.http, socket_url(world.broker))

    raw_transport(client.websocket).write(PING * 10 * NEW_SOCKET_FRAMES)

    assert await client.closed() == 4029


async def test_frames_before_resume_leave_the_burst_whole(world: TunnelWorld) -> None:
    client = await world.open()
    resumed = await TunnelClient.connect(world.http, socket_url(world.broker))
    raw_transport(resumed.websocket).write(PING * (NEW_SOCKET_FRAMES - 1))
    await resumed.send("resume", **client.resume_fields())
    assert (await resumed.receive())["type"] == "open"

    for n in range(50):
        await resumed.send("message", id=str(n), data=n)

    assert [(await resumed.receive())["id"] for _ in range(50)] == [str(n) for n in range(50)]


async def test_subprotocol_is_echoed(world: TunnelWorld) -> None:
    created = await world.server.create()

    client = await TunnelClient.connect(
        world.http, created["url"], protocols=["other", "scan-login.tunnel.1"]
    )

    assert client.websocket.protocol == "scan-login.tunnel.1"


async def test_callbacks_of_one_tunnel_do_not_overlap(world: TunnelWorld) -> None:
    client = await world.open()

    for n in range(50):
        await client.send("message", id=str(n), data=n)
    replies = [await client.receive() for _ in range(50)]

    assert [reply["id"] for reply in replies] == [str(n) for n in range(50)]
    assert [one.data["seq"] for one in world.backend.callbacks] == list(range(1, 52))
    assert world.backend.in_flight_max == 1
