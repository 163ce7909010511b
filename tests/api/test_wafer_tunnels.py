"""Wafer's tunnels: a broker with a business server and clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import NamedTuple

import aiohttp
import pytest

from broker.wafer.signing import signature
from tests.support.app_admin import ODD, TOKEN, Admin
from tests.support.builders import RunningBroker, StartBroker
from tests.support.wafer import (
    HOST,
    KEY,
    WAFER_SETTINGS,
    BusinessServer,
    Fields,
    TunnelCalls,
    WaferClient,
    close_packet,
    message_packet,
    serving_business,
)
from tests.support.waiting import eventually


class World(NamedTuple):
    broker: RunningBroker
    business: BusinessServer
    http: aiohttp.ClientSession
    calls: TunnelCalls

    async def create(self) -> Fields:
        answer = await self.calls.create(self.business.url)
        assert answer["code"] == 0, answer
        return dict(json.loads(answer["data"]))

    async def connect(self, url: str) -> WaferClient:
        client = WaferClient(await self.http.ws_connect(url))
        assert await client.receive() == "timeout:15"
        return client

    async def open(self) -> tuple[str, WaferClient]:
        """Open a tunnel whose business server has got `connect`."""
        created = await self.create()
        client = await self.connect(created["connectUrl"])
        await eventually(
            lambda: created["tunnelId"] in [p.tunnel_id for p in self.business.packets]
        )
        return created["tunnelId"], client


@pytest.fixture
async def world(start_broker: StartBroker) -> AsyncIterator[World]:
    async with serving_business() as business, aiohttp.ClientSession() as http:
        broker = await start_broker(admin_token=TOKEN, **WAFER_SETTINGS)
        yield World(broker, business, http, TunnelCalls(http, broker.url))


async def test_signed_call_creates_tunnel(world: World) -> None:
    answer = await world.calls.create(world.business.url)

    data = json.loads(answer["data"])
    assert (answer["code"], answer["message"]) == (0, "OK")
    assert answer["signature"] == signature(answer["data"], KEY)
    assert data["connectUrl"].startswith(world.broker.url.replace("http", "ws") + "/tunnel/")


async def test_client_and_server_exchange_messages(world: World) -> None:
    tunnel_id, client = await world.open()

    await client.send('message:{"type":"speak","content":{"word":"hi"}}')
    await world.business.received("connect", "message")
    pushed = await world.calls.push(message_packet(tunnel_id, content="hello"))

    assert world.business.packets[1].content == '{"type":"speak","content":{"word":"hi"}}'
    assert world.business.packets[0].content is None
    assert pushed == {"code": 0, "message": "OK", "data": {"invalidTunnelIds": []}}
    assert await client.receive() == 'message:{"type": "speak", "content": "hello"}'


async def test_ping_is_answered_while_callbacks_wait(world: World) -> None:
    world.business.held = asyncio.Event()
    _, client = await world.open()

    for number in range(20):
        await client.send(f'message:{{"type":"speak","content":{number}}}')
    await client.send("ping")

    assert await client.receive() == "pong"
    assert world.business.types() == ["connect"]
    world.business.held.set()
    await world.business.received("connect", *["message"] * 20)
    contents = [packet.content for packet in world.business.packets[1:]]
    assert contents == [f'{{"type":"speak","content":{number}}}' for number in range(20)]


async def test_upgrade_does_not_wait_for_connect(world: World) -> None:
    world.business.held = asyncio.Event()

    client = await world.connect((await world.create())["connectUrl"])
    await client.send("ping")

    assert await client.receive() == "pong"
    world.business.held.set()


async def test_too_many_waiting_messages_drop_socket(world: World) -> None:
    world.business.held = asyncio.Event()
    _, client = await world.open()
    text = "message:" + json.dumps({"type": "speak", "content": "x" * 50_000})

    for _ in range(6):
        await client.send(text)

    assert await client.closed() in (None, 1006)
    world.business.held.set()


async def test_lost_socket_ends_tunnel_after_its_messages(world: World) -> None:
    tunnel_id, client = await world.open()

    await client.send('message:{"type":"last"}')
    await client.websocket.close()

    await world.business.received("connect", "message", "close")
    assert {packet.tunnel_id for packet in world.business.packets} == {tunnel_id}
    pushed = await world.calls.push(message_packet(tunnel_id))
    assert pushed["data"] == {"invalidTunnelIds": [tunnel_id]}


async def test_silent_client_loses_its_tunnel(start_broker: StartBroker) -> None:
    async with serving_business() as business, aiohttp.ClientSession() as http:
        broker = await start_broker(wafer_heartbeat_interval=1, **WAFER_SETTINGS)
        answer = await TunnelCalls(http, broker.url).create(business.url)
        client = WaferClient(await http.ws_connect(json.loads(answer["data"])["connectUrl"]))
        assert await client.receive() == "timeout:1"

        await business.received("connect", "close")

        assert await client.closed() in (None, 1006)


async def test_close_of_the_client_ends_tunnel(world: World) -> None:
    _, client = await world.open()

    await client.send("close")

    await client.closed()
    await world.business.received("connect", "close")


async def test_close_packet_sends_close_after_messages(world: World) -> None:
    tunnel_id, client = await world.open()

    await world.calls.push(message_packet(tunnel_id, content=1), close_packet(tunnel_id))

    assert await client.receive() == 'message:{"type": "speak", "content": 1}'
    assert await client.receive() == "close"
    await client.closed()
    await world.business.received("connect", "close")


async def test_used_ticket_is_accepted_and_closed(world: World) -> None:
    created = await world.create()
    await world.connect(created["connectUrl"])

    second = await world.connect(created["connectUrl"])

    assert await second.closed() == 4001


async def test_ticket_used_a_hundred_times_opens_one_tunnel(world: World) -> None:
    url = (await world.create())["connectUrl"]

    clients = await asyncio.gather(*(world.connect(url) for _ in range(100)))
    codes = [asyncio.create_task(client.closed()) for client in clients]
    await eventually(lambda: sum(code.done() for code in codes) == 99)

    assert {code.result() for code in codes if code.done()} == {4001}
    await world.business.received("connect")


async def test_ticket_is_invalid_at_the_native_path(world: World) -> None:
    url = (await world.create())["connectUrl"].replace("/tunnel/wafer/", "/tunnel/")

    client = WaferClient(await world.http.ws_connect(url))

    assert '"code":4001' in await client.receive()


async def test_unknown_frames_are_ignored(world: World) -> None:
    _, client = await world.open()

    for text in ("", "message", "open", "open:{}", "timeout:1", "\0", "🀄:x"):
        await client.send(text)
    await client.websocket.send_bytes(b"ping")
    await client.send("ping")

    assert await client.receive() == "pong"


@pytest.mark.parametrize(
    "answer", [(500, {}), (404, "x"), (200, {"code": 9003}), (400, {"code": 1})]
)
async def test_given_up_connect_drops_socket(world: World, answer: tuple[int, object]) -> None:
    world.business.answers["connect"] = [answer]
    created = await world.create()
    client = await world.connect(created["connectUrl"])

    assert await client.closed() == 1013

    assert world.business.types() == ["connect"]
    pushed = await world.calls.push(message_packet(created["tunnelId"]))
    assert pushed["data"] == {"invalidTunnelIds": [created["tunnelId"]]}


async def test_busy_business_server_gets_the_packet_again(world: World) -> None:
    world.business.answers["connect"] = [(503, {})]
    _, client = await world.open()
    world.business.answers["message"] = [(503, {}), (503, {})]

    await client.send('message:{"type":"speak"}')

    await world.business.received("connect", "connect", "message", "message", "message")


async def test_failed_message_is_not_repeated(world: World) -> None:
    _, client = await world.open()
    world.business.answers["message"] = [(500, {}), (200, {"code": 7})]

    for number in range(3):
        await client.send(f'message:{{"type":"speak","content":{number}}}')

    await world.business.received("connect", "message", "message", "message")
    await client.send("ping")
    assert await client.receive() == "pong"


async def test_failed_close_is_repeated(world: World) -> None:
    _, client = await world.open()
    world.business.answers["close"] = [(500, {})]

    await client.send("close")

    await world.business.received("connect", "close", "close")


async def test_tunnel_of_another_app_is_invalid(world: World) -> None:
    tunnel_id, client = await world.open()
    async with Admin(world.broker.admin) as admin:
        added = {"id": "red", "name": "Red", "wafer_host": "red.example", "wafer_key": KEY[::-1]}
        assert (await admin.ask("POST", "/apps", added)).body["has_wafer_key"] is True
    url = f"{world.broker.url}/wafer/red"
    red = TunnelCalls(world.http, url, key=KEY[::-1], host="red.example")

    pushed = await red.push(message_packet(tunnel_id), close_packet(tunnel_id))

    assert pushed["data"] == {"invalidTunnelIds": [tunnel_id]}
    await client.send("ping")
    assert await client.receive() == "pong"
    created = json.loads((await red.create(world.business.url))["data"])
    assert len(created["tunnelId"]) == 22


async def test_native_calls_do_not_know_wafer_tunnels(world: World) -> None:
    tunnel_id, _ = await world.open()

    async with world.http.delete(
        f"{world.broker.url}/tunnels/{tunnel_id}?app=default",
        headers={"Authorization": f"Bearer {TOKEN}"},
    ) as answer:
        assert (await answer.json())["error"] == "unknown_tunnel"


@pytest.mark.parametrize(
    ("key", "host", "path"),
    [(KEY[::-1], HOST, ""), (KEY, "other.example", ""), (KEY, HOST, "/wafer/unknown")],
)
async def test_forged_call_has_one_answer(world: World, key: str, host: str, path: str) -> None:
    calls = TunnelCalls(world.http, world.broker.url + path, key=key, host=host)

    answer = await calls.create(world.business.url)

    assert answer == {"code": 9003, "message": "wrong tcId or signature"}


async def test_app_without_wafer_fields_refuses_signatures(start_broker: StartBroker) -> None:
    broker = await start_broker()
    async with aiohttp.ClientSession() as http:
        answer = await TunnelCalls(http, broker.url, key="0" * 32, host="").create(
            "https://x.example"
        )

    assert answer["code"] == 9003


async def test_forged_calls_are_counted_as_failures(
    start_broker: StartBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    broker = await start_broker(misses_per_minute=2, **WAFER_SETTINGS)
    async with aiohttp.ClientSession() as http:
        forged = TunnelCalls(http, broker.url, key=KEY[::-1])
        codes = [(await forged.push())["code"] for _ in range(4)]
        served = await TunnelCalls(http, broker.url).push()

    assert codes == [9003, 9003, 9006, 9006]
    assert served["code"] == 0
    assert "".join(capsys.readouterr()).count("wafer signature refused") == 2


async def test_malformed_calls_have_their_codes(world: World) -> None:
    signed = world.calls.signed
    bodies: list[tuple[bytes | object, int]] = [
        (b"{", 9001),
        (b"[]", 9001),
        (b"[" * 30_000, 9001),
        (b" " * 600_000, 9001),
        ({}, 9002),
        ({"data": "x"}, 9002),
        ({"data": ["x"], "signature": "y"}, 9002),
        (signed("not json"), 9004),
        (signed("[" * 30_000), 9004),
        (signed({"receiveUrl": 7}), 9004),
    ]

    for body, code in bodies:
        assert (await world.calls.post("/get/wsurl", body))["code"] == code, body


INVALID_PACKETS: list[object] = [
    {},
    ["x"],
    [{"tunnelIds": "a", "type": "close"}],
    [{"tunnelIds": [1], "type": "close"}],
    [{"tunnelIds": [], "type": "open"}],
    [{"tunnelIds": [], "type": "message"}],
    [{"tunnelIds": [], "type": "message", "content": "text"}],
    [{"tunnelIds": [], "type": "message", "content": '{"content":1}'}],
    [{"tunnelIds": [], "type": "message", "content": '{"type":1}'}],
    [{"tunnelIds": [], "type": "message", "content": '{"type":"' + "x" * 65_536 + '"}'}],
    [{"tunnelIds": [], "type": "close"}] * 101,
]


async def test_invalid_packets_send_nothing(world: World) -> None:
    tunnel_id, client = await world.open()

    for packets in INVALID_PACKETS:
        both = [message_packet(tunnel_id), *packets] if isinstance(packets, list) else packets
        answer = await world.calls.post("/ws/push", world.calls.signed(both))
        assert answer["code"] == 9004, packets

    await client.send("ping")
    assert await client.receive() == "pong"


async def test_too_many_deliveries_are_refused(world: World) -> None:
    ids = [f"{number:022}" for number in range(600)]

    answer = await world.calls.push(close_packet(*ids), close_packet(*ids))

    assert answer["code"] == 9006


async def test_odd_values_get_codes(world: World) -> None:
    for odd in ODD:
        for path in ("/get/wsurl", "/ws/push"):
            for data in ({"receiveUrl": odd}, [odd], [{"tunnelIds": [odd], "type": "close"}]):
                body = world.calls.signed(data)
                assert "code" in await world.calls.post(path, json.dumps(body).encode())
            fields = json.dumps({"data": odd, "signature": odd, "tcId": odd}).encode()
            assert (await world.calls.post(path, fields))["code"] in (9001, 9002, 9003, 9006)


RECEIVERS = [
    *("http://biz.example/tunnel", "https://127.0.0.1/", "https://10.0.0.1/", "https://[::1]/"),
    *(
        "https://169.254.169.254/",
        "https://[::ffff:10.0.0.1]/",
        "https://localhost/",
        "ftp://x.example",
    ),
    *("https://user@biz.example/", "https://biz.example:0/", "https://[", "", "x" * 600),
    *("https://biz.example/ü", "https://biz.example/#x"),
]


async def test_receiver_inside_the_network_is_refused(start_broker: StartBroker) -> None:
    broker = await start_broker(**{**WAFER_SETTINGS, "wafer_callbacks_private": False})
    async with aiohttp.ClientSession() as http:
        calls = TunnelCalls(http, broker.url)
        codes = {url: (await calls.create(url))["code"] for url in RECEIVERS}
        private = await calls.create("https://10.0.0.1/tunnel")
        public = await calls.create("https://biz.example/tunnel")

    assert set(codes.values()) == {9005}
    assert private["message"].endswith("set SCAN_LOGIN_WAFER_CALLBACKS_PRIVATE=true")
    assert public["code"] == 0


async def test_callbacks_have_webhook_headers_with_a_secret(start_broker: StartBroker) -> None:
    secret = "whsec_" + "A" * 32
    async with serving_business() as business, aiohttp.ClientSession() as http:
        broker = await start_broker(webhook_secret=secret, **WAFER_SETTINGS)
        world = World(broker, business, http, TunnelCalls(http, broker.url))
        tunnel_id, _ = await world.open()

    assert business.packets[0].headers["webhook-id"] == f"{tunnel_id}.1"


async def test_paused_receiver_makes_new_tunnels_unavailable(world: World) -> None:
    world.business.answers["connect"] = [(500, {})] * 5
    for _ in range(5):
        client = await world.connect((await world.create())["connectUrl"])
        await client.closed()

    assert (await world.calls.create(world.business.url))["code"] == 9007
