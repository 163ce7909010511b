"""The server of the demo's game: signed callbacks, and tunnels of a broker."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from broker.infrastructure.runtime.server import Site, serve_sites
from tests.support.builders import StartBroker
from tests.support.clients import PhoneClient
from tests.support.game import (
    GAME_APP,
    GameStage,
    SignedCallbacks,
    game_stage,
    signed_callbacks,
)
from tests.support.tunnel_client import TunnelClient
from tests.support.waiting import eventually
from tests.support.webhook import OTHER_SECRET


@pytest.fixture
async def game() -> AsyncIterator[SignedCallbacks]:
    async with signed_callbacks() as game:
        yield game


async def playing(game: SignedCallbacks) -> None:
    """Begin a match of alice and bob, with their callbacks 1 and 2."""
    for name in ("alice", "bob"):
        await game.open(name)
        await game.act(name, 2, "play")


OPENING = {"subject": "pretend:eve", "tunnel_id": "eve", "seq": 1, "resumed": False}


@pytest.mark.parametrize(
    "forgery",
    [{"secret": OTHER_SECRET}, {"age": 400}, {"age": -400}, {"change": b" "}],
    ids=["other secret", "too old", "too new", "changed body"],
)
async def test_forged_callback_is_refused(game: SignedCallbacks, forgery: dict[str, Any]) -> None:
    status, body = await game.send("tunnel.open", OPENING, **forgery)

    assert (status, body["error"]) == (401, "invalid_signature")


BODIES = [b"", b"{}", b"\xff", b"[" * 10_000]
SIGNATURES = ["", "v1", "v1,", "v1,x", "v2,AAAA", "v1,é"]
TIMES = ["inf", "nan", "9" * 400, "", str(int(time.time()))]


async def test_malformed_callbacks_are_refused(game: SignedCallbacks) -> None:
    for body, signature, signed_at in itertools.product(BODIES, SIGNATURES, TIMES):
        headers = {
            "webhook-id": "1",
            "webhook-timestamp": signed_at,
            "webhook-signature": signature,
        }
        async with game.http.post("/game/callbacks", data=body, headers=headers) as answer:
            assert answer.status == 401, headers


async def test_callback_of_another_app_is_refused(game: SignedCallbacks) -> None:
    status, body = await game.send("tunnel.open", {**OPENING, "app": "other"})

    assert (status, body["error"]) == (400, "invalid_request")


async def test_challenge_is_answered(game: SignedCallbacks) -> None:
    assert await game.send("tunnel.verify", {"challenge": "x"}) == (200, {"challenge": "x"})


async def test_tunnel_without_subject_is_refused(game: SignedCallbacks) -> None:
    opening = {name: value for name, value in OPENING.items() if name != "subject"}

    status, body = await game.send("tunnel.open", opening)

    assert (status, body["error"]) == (403, "access_denied")


async def test_repeated_callback_has_its_first_answer(game: SignedCallbacks) -> None:
    await game.open("alice")
    first = await game.say("alice", 2, {"act": "play"})

    assert await game.say("alice", 2, {"act": "leave"}) == first
    assert (await game.act("alice", 3, "look"))["phase"] == "waiting"


async def test_replayed_callback_changes_nothing(game: SignedCallbacks) -> None:
    await game.open("alice")
    await game.act("alice", 2, "play")
    await game.act("alice", 3, "leave")

    status, body = await game.say("alice", 2, {"act": "play"})

    assert (status, body["error"]) == (409, "replayed")
    assert (await game.act("alice", 4, "look"))["phase"] == "idle"


async def test_replayed_opening_gives_no_seat(game: SignedCallbacks) -> None:
    """Bob would wait for a person who has closed the game."""
    await game.open("alice")
    closed = {"subject": "pretend:alice", "tunnel_id": "alice", "seq": 2}
    assert (await game.send("tunnel.close", {**closed, "by": "client"}))[0] == 204

    assert (await game.open("alice"))[0] == 409
    assert (await game.say("alice", 2, {"act": "play"}))[0] == 204
    await game.open("bob")
    assert (await game.act("bob", 2, "play"))["phase"] == "waiting"


async def test_client_cannot_move_for_the_opponent(game: SignedCallbacks) -> None:
    """The subject is that of the tunnel, whatever the message says."""
    await playing(game)
    forged = {"subject": "pretend:bob", "tunnel_id": "bob", "you": "bob", "player": "bob"}

    await game.act("alice", 3, "throw", round=1, hand="rock", **forged)

    view = await game.act("bob", 3, "look")
    assert (view["hand"], view["other_chosen"]) == (None, True)


async def test_hand_is_hidden_until_both_have_chosen(game: SignedCallbacks) -> None:
    await playing(game)
    await game.act("alice", 3, "throw", round=1, hand="scissors")

    before = await game.act("bob", 3, "look")
    after = await game.act("bob", 4, "throw", round=1, hand="rock")

    assert "other_hand" not in before
    assert "scissors" not in str(before)
    assert (after["other_hand"], after["outcome"], after["score"]) == ("scissors", "won", [1, 0])


ODD: list[Any] = [None, True, 1, "play", [], {}, {"act": None}, {"act": []}, {"act": "__init__"}]
ODD_THROWS: list[Any] = [
    {"act": "throw", "round": number, "hand": hand}
    for number, hand in [(None, "rock"), (True, "rock"), ("1", "rock"), (1, None), (1, ["rock"])]
]


async def test_odd_acts_are_refused(game: SignedCallbacks) -> None:
    await playing(game)

    for seq, odd in enumerate([*ODD, *ODD_THROWS], start=3):
        status, body = await game.say("alice", seq, odd)
        assert (status, body["error"]) == (409, "invalid_request"), odd


async def test_older_tunnel_of_a_person_is_refused(game: SignedCallbacks) -> None:
    await game.open("alice")
    assert (await game.open("alice", tunnel="newer"))[0] == 200

    status, body = await game.say("alice", 2, {"act": "play"})
    resumed = await game.open("alice", seq=3, resumed=True)

    assert (status, body["error"]) == (409, "replaced")
    assert (resumed[0], resumed[1]["error"]) == (403, "replaced")


async def test_tunnel_older_than_the_server_gets_a_seat(game: SignedCallbacks) -> None:
    assert (await game.act("alice", 7, "play"))["phase"] == "waiting"


# With answers of a broker

PUSH = "POST /tunnels/push"
LIST = "GET /tunnels"
GOOD = {"results": [{"delivered": 1, "kept": 0, "unknown": []}], "tunnels": []}


@pytest.fixture
async def requests(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[dict[str, list[Any]]]:
    """Bodies of the game's requests, by method and path. The first answers are malformed."""
    monkeypatch.setattr("web_demo.game.server.RETRY_DELAY", 0.1)
    monkeypatch.setattr("web_demo.game.server.PRESENCE_INTERVAL", 0.1)
    bodies: dict[str, list[Any]] = {PUSH: [], LIST: []}

    async def answer(request: web.Request) -> web.Response:
        received = bodies[f"{request.method} {request.path}"]
        received.append(await request.json() if request.can_read_body else None)
        return web.json_response({} if len(received) == 1 else GOOD)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    site = Site("broker", application, "127.0.0.1", 0, "PORT")
    async with serve_sites([site]) as urls, signed_callbacks(urls["broker"]) as game:
        await game.open("alice")
        await game.act("alice", 2, "play")
        yield bodies


async def test_push_is_repeated_after_malformed_answer(requests: dict[str, list[Any]]) -> None:
    await eventually(lambda: len(requests[PUSH]) > 1)

    for body in requests[PUSH]:
        assert [one["data"]["phase"] for one in body["messages"]] == ["waiting"]


async def test_presence_is_read_after_malformed_answer(requests: dict[str, list[Any]]) -> None:
    await eventually(lambda: len(requests[LIST]) > 1)


# With a broker


async def open_tunnel(stage: GameStage, http: aiohttp.ClientSession, name: str) -> TunnelClient:
    """Open a tunnel as a mini program does."""
    async with PhoneClient(stage.broker.url, name, app=GAME_APP) as phone:
        headers = {"X-WX-Id": phone.session["id"], "X-WX-Skey": phone.session["skey"]}
    async with http.post(f"{stage.site}/game/tunnel", headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        return await TunnelClient.open(http, (await answer.json())["url"])


async def reply(client: TunnelClient, **act: object) -> dict[str, Any]:
    """Send an act, and return the view that answers it. Pushes before it are skipped."""
    await client.send("message", id="1", data=act)
    while (frame := await client.receive())["type"] != "reply":
        pass
    return dict(frame["data"])


async def pushed(client: TunnelClient, **expected: object) -> dict[str, Any]:
    """Return the next pushed view with these fields."""
    while True:
        frame = await client.receive()
        if frame["type"] == "message" and expected.items() <= frame["data"].items():
            return dict(frame["data"])


async def test_phones_play_a_round(start_broker: StartBroker) -> None:
    async with game_stage(start_broker) as stage, aiohttp.ClientSession() as http:
        alice = await open_tunnel(stage, http, "alice")
        bob = await open_tunnel(stage, http, "bob")
        await alice.send("message", id="a1", data={"act": "play"})
        await bob.send("message", id="b1", data={"act": "play"})
        await pushed(alice, phase="choosing")

        await alice.send("message", id="a2", data={"act": "throw", "round": 1, "hand": "rock"})
        hidden = await pushed(bob, other_chosen=True)
        await bob.send("message", id="b2", data={"act": "throw", "round": 1, "hand": "paper"})

        assert "rock" not in str(hidden)
        shown = await pushed(alice, phase="revealed")
        assert (shown["other_hand"], shown["outcome"], shown["score"]) == ("paper", "lost", [0, 1])
        for socket in (alice, bob):
            await socket.websocket.close()


async def test_second_page_takes_the_seat(start_broker: StartBroker) -> None:
    async with game_stage(start_broker) as stage, aiohttp.ClientSession() as http:
        first = await open_tunnel(stage, http, "alice")
        assert (await reply(first, act="play"))["phase"] == "waiting"

        second = await open_tunnel(stage, http, "alice")

        assert await first.closed() == 4100
        assert (await reply(second, act="look"))["phase"] == "waiting"
        await second.websocket.close()


async def test_tunnel_needs_a_session(start_broker: StartBroker) -> None:
    async with game_stage(start_broker) as stage, aiohttp.ClientSession() as http:
        for headers, status, error in [
            ({}, 403, "invalid_origin"),
            ({"Origin": "http://evil.example"}, 403, "invalid_origin"),
            ({"Origin": stage.site}, 401, "login_required"),
            ({"X-WX-Id": "", "X-WX-Skey": ""}, 400, "invalid_request"),
            ({"X-WX-Id": "A" * 22, "X-WX-Skey": "B" * 43}, 401, "invalid_session"),
        ]:
            async with http.post(f"{stage.site}/game/tunnel", headers=headers) as answer:
                assert (answer.status, (await answer.json())["error"]) == (status, error), headers


async def test_tunnel_is_unavailable_without_broker(start_broker: StartBroker) -> None:
    async with game_stage(start_broker) as stage, aiohttp.ClientSession() as http:
        stage.proxy.cut()

        headers = {"X-WX-Id": "A" * 22, "X-WX-Skey": "B" * 43}
        async with http.post(f"{stage.site}/game/tunnel", headers=headers) as answer:
            body = await answer.json()

        assert (answer.status, body["error"]) == (503, "temporarily_unavailable")
