"""The life and the limits of tunnels: sessions, timeouts, slow sides, drain, other apps."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from tests.support.app_admin import ODD
from tests.support.builders import Clock, FixedDirectory, StartBroker
from tests.support.clients import PhoneClient
from tests.support.logins import new_login
from tests.support.loop_clock import LoopClock
from tests.support.session_server import basic, secret_of
from tests.support.tunnel_client import (
    Fields,
    TunnelClient,
    TunnelServer,
    TunnelWorld,
    socket_url,
    tunnel_world,
)
from tests.support.waiting import eventually

UNKNOWN = "A" * 22


@pytest.fixture
def clock() -> Clock:
    """A clock that a test moves. Receivers of webhooks compare it with their own."""
    return Clock(time.time())


@pytest.fixture
async def world(start_broker: StartBroker) -> AsyncIterator[TunnelWorld]:
    async with tunnel_world(start_broker, directory=FixedDirectory("alice")) as world:
        yield world


def session_of(phone: PhoneClient) -> Fields:
    return {name: phone.session[name] for name in ("id", "skey")}


async def test_session_names_person_of_tunnel(world: TunnelWorld) -> None:
    async with PhoneClient(world.broker.url) as phone:
        await world.open(session=session_of(phone))

    [opening] = await world.backend.received("tunnel.open")
    assert (opening.data["openid"], opening.data["subject"]) == ("alice", "user-alice")


async def test_backend_ends_tunnels_of_reported_login(world: TunnelWorld) -> None:
    async def end_tunnels(data: Fields) -> web.StreamResponse:
        page = await world.server.read("/tunnels", subject=data["subject"])
        for tunnel in page.body["tunnels"]:
            await world.server.call("DELETE", f"/tunnels/{tunnel['tunnel_id']}")
        return web.Response(status=204)

    world.backend.answers["login.reported"] = end_tunnels
    async with new_login(world.broker) as login, PhoneClient(world.broker.url) as phone:
        await phone.post("scan", {"scene": login.scene})
        await phone.post("confirm", login.named)
        client = await world.open(subject=await login.subject())
        other = await world.open(subject="user-bob")

        await phone.post("report", login.named)

    assert await client.closed() == 4010
    await other.send("ping")
    assert (await other.receive())["type"] == "pong"


async def test_wrong_session_gets_no_tunnel(world: TunnelWorld) -> None:
    async with PhoneClient(world.broker.url) as phone:
        wrong = {**session_of(phone), "skey": "x" * 43}

        answer = await world.server.call("POST", "/tunnels", session=wrong)

    assert (answer.status, answer.body["error"]) == (401, "invalid_session")


@pytest.mark.parametrize("verb", ["session", "sessions"])
async def test_sign_out_ends_tunnels_of_session(world: TunnelWorld, verb: str) -> None:
    async with PhoneClient(world.broker.url) as phone, PhoneClient(world.broker.url) as other:
        client = await world.open(session=session_of(phone))
        kept = await world.open(session=session_of(other))

        await phone.delete(verb)

        assert await client.closed() == 4011
        [closing, *_] = await world.backend.received("tunnel.close")
        assert (closing.data["code"], closing.data["by"]) == (4011, "server")
        if verb == "session":
            await kept.send("ping")
            assert await kept.receive() == {"type": "pong"}


async def test_ticket_of_ended_session_opens_no_tunnel(world: TunnelWorld) -> None:
    async with PhoneClient(world.broker.url) as phone:
        created = await world.server.create(session=session_of(phone))
        await phone.delete("session")

    client = await TunnelClient.connect(world.http, created["url"])

    assert await client.closed() == 4011
    assert world.backend.callbacks == []


async def test_session_has_five_open_tunnels(world: TunnelWorld) -> None:
    async with PhoneClient(world.broker.url) as phone:
        session = session_of(phone)
        late = await world.server.create(session=session)
        clients = [await world.open(session=session) for _ in range(5)]

        refused = await world.server.call("POST", "/tunnels", session=session)
        too_late = await TunnelClient.connect(world.http, late["url"])
        assert (refused.status, await too_late.closed()) == (429, 4029)

        await clients[2].websocket.close()
        await world.is_away(clients[2].tunnel_id)
        await world.open(session=session)

    [closing] = await world.backend.received("tunnel.close")
    assert closing.data["tunnel_id"] == clients[2].tunnel_id


async def test_app_has_limited_tunnels(start_broker: StartBroker) -> None:
    async with tunnel_world(start_broker, tunnel_max=1) as world:
        late = await world.server.create()
        await world.open()

        async def is_refused() -> bool:
            return (await world.server.call("POST", "/tunnels")).status == 429

        await eventually(is_refused)  # the count is at most a second old
        client = await TunnelClient.connect(world.http, late["url"])
        assert await client.closed() == 4029


async def test_away_tunnel_ends_after_its_timeout(start_broker: StartBroker, clock: Clock) -> None:
    async with tunnel_world(start_broker, clock=clock) as world:
        client = await world.open()
        await client.websocket.close()
        await world.is_away(client.tunnel_id)

        clock.time += 121

        [closing] = await world.backend.received("tunnel.close")
        assert (closing.data["code"], closing.data["by"]) == (1006, "network")
        assert (await world.resume(client)).opened["code"] == 4001


async def test_tunnel_ends_with_expired_session(start_broker: StartBroker, clock: Clock) -> None:
    async with (
        tunnel_world(start_broker, clock=clock, session_idle=100) as world,
        PhoneClient(world.broker.url) as phone,
    ):
        session = session_of(phone)
        client = await world.open(session=session)
        clock.time += 80
        other = await world.open(session=session)  # a use, which extends the session

        clock.time += 40
        await other.send("ping")
        assert (await other.receive())["type"] == "pong"

        clock.time += 100
        assert await client.closed() == 4011
        assert await other.closed() == 4011


async def test_expired_ticket_opens_no_tunnel(start_broker: StartBroker, clock: Clock) -> None:
    async with tunnel_world(start_broker, clock=clock) as world:
        created = await world.server.create(expires_in=30)

        clock.time += 31
        client = await TunnelClient.connect(world.http, created["url"])

        assert await client.closed() == 4001


async def test_silent_client_is_dropped(world: TunnelWorld, loop_clock: LoopClock) -> None:
    silent, pinging = await world.open(), await world.open()

    for _ in range(8):
        await loop_clock.pass_by(10, 1)
        await pinging.send("ping")
        assert await pinging.receive() == {"type": "pong"}

    assert await silent.closed() == 1006
    await world.is_away(silent.tunnel_id)


async def test_connection_without_resume_is_closed(
    world: TunnelWorld, loop_clock: LoopClock
) -> None:
    client = await TunnelClient.connect(world.http, socket_url(world.broker))

    await loop_clock.move(6)

    assert await client.closed() == 4002


async def test_slow_reader_is_closed_and_misses_nothing(world: TunnelWorld) -> None:
    client = await world.open()
    client.websocket._response.connection.transport.pause_reading()  # type: ignore[union-attr]
    for n in range(100):
        await world.server.push(client.tunnel_id, [n, "x" * 60_000])
    await world.is_away(client.tunnel_id)
    client.websocket._response.connection.transport.resume_reading()  # type: ignore[union-attr]

    received = await client.rest()
    resumed = await world.resume(client, offset=len(received))

    assert (client.websocket.close_code, resumed.opened["recovered"]) in [
        (4008, True),
        (1006, True),
    ]
    received += [data for data in await resumed.messages(100 - len(received))]
    assert [data[0] for data in received] == list(range(100))


async def test_slow_backend_slows_client(world: TunnelWorld) -> None:
    released = asyncio.Event()
    world.backend.hold("tunnel.message", released)
    client = await world.open()
    for n in range(50):
        await client.send("message", id=str(n), data="x" * 60_000)
    await client.send("ping")
    await world.backend.received("tunnel.message")

    released.set()

    frames = [await client.receive() for _ in range(51)]
    pong = frames.index({"type": "pong"})
    assert [frame["id"] for frame in frames if "id" in frame] == [*map(str, range(50))]
    assert pong >= 20, "the socket was read while 16 messages waited"


async def test_draining_broker_does_not_use_ticket(world: TunnelWorld) -> None:
    created = await world.server.create()
    assert world.broker.drain is not None
    world.broker.drain()

    clients = [
        await TunnelClient.connect(world.http, url)
        for url in (created["url"], created["url"], socket_url(world.broker))
    ]

    assert [await client.closed() for client in clients] == [1012] * 3


async def test_stopped_broker_finishes_message_in_flight(world: TunnelWorld) -> None:
    released = asyncio.Event()
    world.backend.hold("tunnel.message", released)
    client = await world.open()
    await client.send("message", data="last")
    await world.backend.received("tunnel.message")

    stopping = asyncio.create_task(world.stop())
    assert await client.closed() == 1012
    released.set()
    await stopping

    assert len(world.backend.of_type("tunnel.message")) == 1


async def test_stopped_broker_closes_sockets_without_tunnel(
    world: TunnelWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.tunnels.client_socket.FIRST_FRAME_TIMEOUT", 600)
    world.backend.hold("tunnel.open", asyncio.Event())
    created = await world.server.create()
    clients = [
        await TunnelClient.connect(world.http, url)
        for url in (created["url"], socket_url(world.broker))
    ]
    await world.backend.received("tunnel.open")

    stopping = asyncio.create_task(world.stop())

    assert await asyncio.gather(*(client.closed() for client in clients)) == [1012] * 2
    await stopping


async def test_handshake_in_pieces_opens_tunnel(world: TunnelWorld) -> None:
    created = await world.server.create()
    url = urlsplit(created["url"])
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    request = (
        f"GET {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    ).encode()

    for at in range(0, len(request), 40):
        writer.write(request[at : at + 40])
        await writer.drain()
        await asyncio.sleep(0)
    head = await reader.readuntil(b"\r\n\r\n")
    frame = await reader.readexactly(4)

    assert head.startswith(b"HTTP/1.1 101")
    assert frame[0] == 0x81
    writer.close()


async def test_plain_request_to_socket_is_refused(world: TunnelWorld) -> None:
    for path in ("/tunnel", f"/tunnel/{'A' * 43}"):
        async with world.http.get(world.broker.url + path) as response:
            assert (response.status, (await response.json())["error"]) == (400, "invalid_request")


async def test_tunnel_of_another_app_is_unknown(world: TunnelWorld) -> None:
    red = TunnelServer(
        world.http, world.broker.url, basic("red", await secret_of(world.broker, "red"))
    )
    client = await world.open(subject="s")
    path = f"/tunnels/{client.tunnel_id}"

    assert (await red.read(path)).status == 410
    assert (await red.call("PATCH", path, meta={})).status == 410
    assert (await red.call("DELETE", path)).status == 410
    assert (await red.push(client.tunnel_id, 1)).status == 410
    to = {"tunnel_ids": [client.tunnel_id], "subjects": ["s"]}
    pushed = await red.call("POST", "/tunnels/push", messages=[{"to": to, "data": 1}])
    assert pushed.body["results"] == [{"delivered": 0, "kept": 0, "unknown": [client.tunnel_id]}]
    assert (await red.read("/tunnels")).body == {"tunnels": []}


async def test_calls_need_credentials(world: TunnelWorld) -> None:
    wrong = TunnelServer(world.http, world.broker.url, basic("red", "wrong"))

    assert (await wrong.call("POST", "/tunnels")).status == 401
    assert (await wrong.read(f"/tunnels/{UNKNOWN}")).status == 401


async def test_app_without_url_gets_no_tunnel(start_broker: StartBroker) -> None:
    async with tunnel_world(start_broker, tunnel_url=None) as world:
        answer = await world.server.call("POST", "/tunnels")

    assert (answer.status, answer.body["error"]) == (400, "invalid_request")
    assert "tunnel_url" in answer.body["error_description"]


CALLS = [
    ("POST", "/tunnels", ("session", "subject", "meta", "expires_in")),
    ("POST", "/tunnels/push", ("messages",)),
    ("POST", f"/tunnels/{UNKNOWN}/push", ("data", "id", "keep")),
    ("PATCH", f"/tunnels/{UNKNOWN}", ("meta", "groups")),
    ("DELETE", f"/tunnels/{UNKNOWN}", ("code", "reason")),
]


async def test_odd_bodies_are_refused_without_failure(world: TunnelWorld) -> None:
    for method, path, fields in CALLS:
        for field in fields:
            for value in [*ODD, [{"to": {"tunnel_ids": [[]]}, "data": 1}], [{"to": {}}]]:
                answer = await world.server.call(method, path, **{field: value})
                assert answer.status < 500, (method, path, field, value)


async def test_malformed_bodies_are_refused(world: TunnelWorld) -> None:
    headers = {"Authorization": world.server.authorization}
    for body in (b"", b"[]", b"{", b"\xff", b'{"app": "default", "data": 1e999}'):
        for method, path, _ in CALLS:
            url = world.broker.url + path
            async with world.http.request(method, url, data=body, headers=headers) as response:
                assert response.status in (400, 410), (method, path, body)


async def test_malformed_id_is_an_unknown_tunnel(world: TunnelWorld) -> None:
    for tunnel_id in ("x", "{}", "a" * 22 + "%0a", "A" * 500):
        for method in ("GET", "PATCH", "DELETE"):
            answer = await world.server.call(method, f"/tunnels/{tunnel_id}?app=default")
            assert answer.status in (404, 410), (method, tunnel_id)


async def test_push_over_its_limits_is_refused(world: TunnelWorld) -> None:
    one = {"to": {"tunnel_ids": [UNKNOWN]}, "data": 1}
    many = {"to": {"tunnel_ids": [f"{n:022}" for n in range(600)]}, "data": 1}

    for messages in ([one] * 101, [many, many], [{**one, "data": "x" * 65_500}]):
        answer = await world.server.call("POST", "/tunnels/push", messages=messages)
        assert answer.status == 400

    large = await world.server.call("POST", "/tunnels/push", messages=["x" * 530_000])
    assert "524288" in large.body["error_description"]


async def test_list_has_pages(world: TunnelWorld) -> None:
    clients = await asyncio.gather(*(world.open(subject="s") for _ in range(102)))

    first = (await world.server.read("/tunnels", subject="s")).body
    second = (await world.server.read("/tunnels", subject="s", after=first["next"])).body

    listed = [one["tunnel_id"] for one in first["tunnels"] + second["tunnels"]]
    assert len(first["tunnels"]) == 100
    assert "next" not in second
    assert sorted(client.tunnel_id for client in clients) == listed


async def test_secrets_are_not_logged(
    world: TunnelWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    created = await world.server.create()
    client = await TunnelClient.open(world.http, created["url"])
    await client.send("message", data="canary-message")
    await world.server.push(client.tunnel_id, "canary-push")
    assert await client.messages(1) == ["canary-push"]
    await world.backend.received("tunnel.message")
    await client.send("close")
    await world.backend.received("tunnel.close")

    logged = json.dumps(capsys.readouterr())
    assert client.tunnel_id in logged
    for secret in (created["url"][-43:], client.opened["resume"], "canary"):
        assert secret not in logged
