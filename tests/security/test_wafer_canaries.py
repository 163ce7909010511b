"""Wafer's key, tickets, sessions and messages are in no log, metric, answer, bus or database.

SDKs send the key in clear with each call, as `tcKey`. MONITOR records every command of Redis.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import aiohttp
import pytest

from tests.support.app_admin import TOKEN, Admin
from tests.support.builders import RunningBroker, StartBroker
from tests.support.leaks import fetch, leaked, monitored
from tests.support.servers.redis import redis_program, running
from tests.support.wafer import (
    HOST,
    KEY,
    WAFER_SETTINGS,
    BusinessServer,
    SessionServer,
    TunnelCalls,
    WaferClient,
    close_packet,
    message_packet,
    serving_business,
)
from tests.support.waiting import eventually

RED_KEY = "canary-wafer-key-of-the-app-red"


async def add_red(broker: RunningBroker) -> str:
    """Add an app with a key, change it, and return the answers."""
    async with Admin(broker.admin) as admin:
        fields = {"wafer_host": "red.example", "wafer_key": RED_KEY}
        answers = [
            await admin.ask("POST", "/apps", {"id": "red", "name": "Red", **fields}),
            await admin.ask(
                "POST", "/apps", {"id": "bad", "name": "Bad", "wafer_key": RED_KEY * 9}
            ),
            await admin.ask("GET", "/apps"),
        ]
    assert [answer.status for answer in answers] == [201, 400, 200]
    return str([answer.body for answer in answers])


async def use_tunnel(
    http: aiohttp.ClientSession, url: str, business: BusinessServer
) -> list[object]:
    """Use every call and frame, also with faults. Returns the answers, the first with a ticket."""
    calls = TunnelCalls(http, url)
    opened = await calls.create(business.url)
    created = json.loads(opened["data"])
    client = WaferClient(await http.ws_connect(created["connectUrl"]))
    await client.receive()
    business.answers["message"] = [(500, {}), (200, {"code": 7})]
    for _ in range(2):
        await client.send('message:{"type":"canary-content"}')
    await client.send("canary-content:1")
    await business.received("connect", "message", "message")
    packet = message_packet(created["tunnelId"], content="canary-content")
    answers = [
        await calls.push(packet),
        await TunnelCalls(http, url, key=RED_KEY).push(packet),
        await TunnelCalls(http, f"{url}/wafer/red").push(packet),
        await calls.create("canary-content"),
        await calls.push({"tunnelIds": [], "type": "canary-content"}),
        await calls.post("/ws/push", {"tcKey": KEY}),
        await calls.post("/ws/push", KEY.encode()),
        await calls.push(close_packet(created["tunnelId"])),
    ]
    await business.received("connect", "message", "message", "close")
    return [created["connectUrl"].rpartition("/")[2], *answers]


async def use_session(http: aiohttp.ClientSession, url: str) -> str:
    """Open a session and check it, also with wrong fields. Returns its skey."""
    sessions = SessionServer(http, url)
    data = (await sessions.open("pretend:canary-person"))["returnData"]
    for skey in (data["skey"], data["skey"][::-1]):
        await sessions.call("auth", id=data["id"], skey=skey)
    await sessions.call("id_skey", code="canary-code")
    return str(data["skey"])


async def test_wafer_secrets_leave_no_trace(
    start_broker: StartBroker, records_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(redis_program()) as redis:
        async with (
            monitored(redis) as monitor,
            serving_business() as business,
            aiohttp.ClientSession() as http,
        ):
            broker = await start_broker(
                **WAFER_SETTINGS, admin_token=TOKEN, state_url=redis.url, log_level="debug"
            )
            answers = await add_red(broker)
            ticket, *rest = await use_tunnel(http, broker.url, business)
            skey = await use_session(http, broker.url)
            metrics = await fetch(http, f"{broker.admin}/metrics")
            with redis.client() as client:
                client.echo("the-end")
            await eventually(lambda: "the-end" in monitor.all())
    logs = "".join(capsys.readouterr())
    with closing(sqlite3.connect(records_file)) as database:
        stored = "\n".join(database.iterdump())

    secrets = [KEY, RED_KEY, str(ticket), skey]
    assert "red.example" in stored
    assert "wafer signature refused" in logs
    assert "canary-content" in monitor.all()
    assert leaked([KEY, RED_KEY], answers + str(rest)) == []
    assert leaked([*secrets, "canary-content", "canary-code"], logs + metrics) == []
    assert leaked([*secrets, "canary-content"], monitor.bus()) == []
    assert leaked(secrets, monitor.all() + stored) == []
    assert HOST not in logs
