"""Secrets and messages of native tunnels are in no log, metric or notice; no secret is stored.

MONITOR records every command of Redis, also those of scripts.
"""

from __future__ import annotations

import base64
import sqlite3
from contextlib import closing
from pathlib import Path

import aiohttp
import pytest

from tests.support.builders import StartBroker
from tests.support.clients import PhoneClient
from tests.support.leaks import fetch, leaked, monitored
from tests.support.servers.redis import redis_program, running
from tests.support.tunnel_client import (
    TunnelClient,
    TunnelServer,
    TunnelWorld,
    reply_with,
    respond,
    socket_url,
    tunnel_settings,
    tunnel_world,
)
from tests.support.waiting import eventually
from tests.support.webhook import SECRET

CONTENT = "canary-content"
WRONG = "canary-wrong"


async def use_calls(world: TunnelWorld, two: TunnelServer) -> list[str]:
    """Use every call and frame, with a second instance. Returns ticket, skey and resume secret."""
    async with PhoneClient(world.broker.url, "canary-person") as phone:
        session = {name: phone.session[name] for name in ("id", "skey")}
        created = await world.server.create(session=session, meta={CONTENT: 1}, groups=["g"])
        client = await TunnelClient.open(world.http, created["url"])
        await use_frames(world, two, client)
        resumed = await world.resume(client)
        assert await resumed.messages(2) == [CONTENT] * 2
        path = f"/tunnels/{client.tunnel_id}"
        for call in (two.read(path), two.read("/tunnels", subject="canary-person")):
            assert (await call).status == 200
        await two.call("PATCH", path, meta={CONTENT: 2})
        await two.call("DELETE", path, reason=CONTENT)
        await world.backend.received("tunnel.close")
    ticket = created["url"].rpartition("/")[2]
    return [ticket, session["skey"], str(client.opened["resume"])]


def encodings_of(secret: str) -> list[str]:
    """Return the forms in which a state may store a secret that is not hashed."""
    data = secret.encode()
    return [secret, data.hex(), base64.b64encode(data).decode().rstrip("=")]


async def use_frames(world: TunnelWorld, two: TunnelServer, client: TunnelClient) -> None:
    """Send messages both ways."""
    for answer in (reply_with(reply=CONTENT), respond(400, {"error": CONTENT}), respond(404, None)):
        world.backend.answers["tunnel.message"] = answer
        await client.send("message", id=str(answer), data=CONTENT)
    world.backend.answers["tunnel.message"] = reply_with(reply=CONTENT)
    for _ in range(3):
        assert (await client.receive())["type"] == "reply"
    await two.push(client.tunnel_id, CONTENT, id="1")
    await two.call("POST", "/tunnels/push", messages=[{"to": {"groups": ["g"]}, "data": CONTENT}])
    to = {"tunnel_ids": [client.tunnel_id]}
    await two.call("POST", "/tunnels/push", messages=[{"to": to, "data": CONTENT}])
    assert await client.messages(2) == [CONTENT] * 2


async def use_wrong_fields(world: TunnelWorld) -> None:
    client = await world.open()
    for url in (f"{socket_url(world.broker)}/{WRONG}", f"{socket_url(world.broker)}?{WRONG}"):
        refused = await TunnelClient.connect(world.http, url)
        await refused.send("resume", **client.resume_fields() | {"resume": WRONG})
        assert await refused.closed() == 4001
    await world.server.call("POST", "/tunnels", session={"id": "A" * 22, "skey": WRONG})
    await world.server.push(client.tunnel_id, WRONG, keep=WRONG)
    await TunnelServer(world.http, world.broker.url, f"Basic {WRONG}").call("POST", "/tunnels")
    await client.send(WRONG, data=WRONG)
    assert await client.closed() == 4002


async def test_tunnel_secrets_leave_no_trace(
    start_broker: StartBroker, records_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(redis_program()) as redis:
        shared = {"state_url": redis.url, "log_level": "debug"}
        async with (
            monitored(redis) as monitor,
            tunnel_world(start_broker, **shared) as world,
            aiohttp.ClientSession() as http,
        ):
            two = await start_broker(
                **tunnel_settings(world.backend), **shared, public_url=world.broker.url
            )
            secrets = await use_calls(world, TunnelServer(http, two.url))
            await use_wrong_fields(world)
            metrics = await fetch(http, f"{world.broker.admin}/metrics")
            with redis.client() as client:
                client.echo("the-end")
            await eventually(lambda: "the-end" in monitor.all())
    logs = "".join(capsys.readouterr())
    with closing(sqlite3.connect(records_file)) as database:
        stored = "\n".join(database.iterdump())

    assert "tunnel opened" in logs
    assert "scanlogin_tunnel_callbacks_total" in metrics
    assert "tunnel-news" in monitor.bus()
    assert CONTENT in monitor.all()
    assert leaked([*secrets, SECRET, CONTENT, WRONG], logs + metrics) == []
    assert leaked([*secrets, SECRET, CONTENT, WRONG], monitor.bus()) == []
    encoded = [form for secret in secrets for form in encodings_of(secret)]
    assert leaked([*encoded, SECRET, WRONG], monitor.all() + stored) == []
