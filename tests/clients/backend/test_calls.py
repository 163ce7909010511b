"""Calls of the Python package to a broker, and the events of tunnels that the broker sends."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from broker.infrastructure.outbound.webhook import sign
from tests.support.app_admin import TOKEN
from tests.support.builders import RunningBroker, StartBroker
from tests.support.client_driver import Driver, KeyServer, running
from tests.support.clients import PhoneClient
from tests.support.environment import free_port
from tests.support.files import file_form, session_headers, upload
from tests.support.session_server import secret_of
from tests.support.tunnel_client import TunnelClient, tunnel_world
from tests.support.webhook import SECRET


@pytest.fixture
async def driver(python_folder: Path) -> AsyncIterator[Driver]:
    async with running("Python", python_folder) as driver:
        yield driver


class Calls(NamedTuple):
    """The calls of an app."""

    driver: Driver

    async def use(self, url: str, secret: str, app: str = "red") -> None:
        await self.driver.send(make="Broker", url=url, app=app, secret=secret)

    async def call(self, name: str, **arguments: object) -> Any:
        return await self.driver.send(do=name, arguments=arguments)

    async def done(self, name: str, **arguments: object) -> Any:
        answer = await self.call(name, **arguments)
        assert "done" in answer, answer
        return answer["done"]


@pytest.fixture
def calls(driver: Driver) -> Calls:
    return Calls(driver)


async def test_session_is_opened_checked_and_ended(calls: Calls, start_broker: StartBroker) -> None:
    broker = await start_broker(admin_token=TOKEN)
    await calls.use(f"{broker.url}/", await secret_of(broker, "red"))
    opened = await calls.done("sessions.open", js_code="pretend:alice")
    session = {"id": opened["id"], "skey": opened["skey"]}
    person = {"app": "red", "openid": "alice", "unionid": None, "subject": "pretend:alice"}

    checked = await calls.done("sessions.check", **session)
    ended = await calls.done("sessions.end", **session)
    after = await calls.call("sessions.check", **session)

    assert {name: checked[name] for name in person} == person
    assert {name: opened[name] for name in person} == person
    assert ended == 1
    assert (after["error"], after["status"]) == ("BrokerRefused", 500)
    assert after["text"].startswith("invalid_session: ")


async def test_wrong_secret_is_reported(calls: Calls, broker: RunningBroker) -> None:
    await calls.use(broker.url, "wrong")

    answer = await calls.call("sessions.open", js_code="pretend:alice")

    assert answer["text"].startswith("invalid_client: ")


async def test_unreachable_broker_is_unavailable(calls: Calls) -> None:
    await calls.use(f"http://127.0.0.1:{free_port()}", "any")

    answer = await calls.call("sessions.open", js_code="pretend:alice")

    assert (answer["error"], answer["status"]) == ("BrokerUnavailable", 503)


async def test_page_of_another_server_is_unavailable(calls: Calls) -> None:
    async with KeyServer().serving() as url:
        await calls.use(url, "any")

        answer = await calls.call("sessions.open", js_code="pretend:alice")

    assert (answer["error"], answer["status"]) == ("BrokerUnavailable", 503)


async def test_tunnel_events_are_parsed(driver: Driver, start_broker: StartBroker) -> None:
    """A real tunnel: its callbacks have the fields that the events declare."""
    async with tunnel_world(start_broker) as world:
        client = await world.open(subject="user-7")
        await client.send("message", id="1", data={"n": 1})
        assert (await client.receive())["type"] == "reply"
        await client.send("close")
        await world.backend.received("tunnel.close")
    await driver.send(make="Webhook", secrets=[SECRET])

    found = {}
    for callback in world.backend.callbacks:
        now = time.time()
        request = sign([SECRET], type=callback.type, data=callback.data, now=now)
        answer = await driver.send(
            do="parse", headers=dict(request.headers), body=request.body.decode()
        )
        found[answer["done"].pop("type")] = answer["done"]

    assert set(found) == {"tunnel.open", "tunnel.message", "tunnel.close"}
    assert found["tunnel.message"]["data"] == {"n": 1}
    assert found["tunnel.close"]["by"] == "client"
    assert {event["subject"] for event in found.values()} == {"user-7"}


async def test_tunnel_is_opened_pushed_to_and_closed(
    calls: Calls, start_broker: StartBroker
) -> None:
    async with tunnel_world(start_broker) as world:
        await calls.use(world.broker.url, TOKEN, app="default")

        new = await calls.done("tunnels.open", subject="user-7", meta={"room": 7})
        client = await TunnelClient.open(world.http, new["url"])
        pushed = await calls.done("tunnels.push", data={"n": 1}, subjects=["user-7"], id="m1")
        found = await calls.done("tunnels.get", tunnel_id=new["tunnel_id"])
        await calls.done("tunnels.close", tunnel_id=new["tunnel_id"], code=4100, reason="over")

        assert pushed == {"delivered": 1, "kept": 0, "unknown": []}
        assert await client.messages(1) == [{"n": 1}]
        assert (found["state"], found["offset"], found["meta"]) == ("open", 1, {"room": 7})
        assert await client.closed() == 4100
        gone = await calls.call("tunnels.get", tunnel_id=new["tunnel_id"])
        assert gone["text"].startswith("unknown_tunnel: ")


async def test_files_are_listed_and_deleted(
    calls: Calls, start_broker: StartBroker, tmp_path: Path
) -> None:
    broker = await start_broker(admin_token=TOKEN, files_url=(tmp_path / "files").as_uri())
    await calls.use(broker.url, TOKEN, app="default")
    async with aiohttp.ClientSession(broker.url) as http, PhoneClient(broker.url) as phone:
        file = (await upload(http, session_headers(phone), file_form(purpose="avatar"))).body

    page = await calls.done("files.list", openid="alice")
    found = await calls.done("files.get", file_id=file["file_id"])
    await calls.done("files.delete", file_id=file["file_id"])
    gone = await calls.call("files.get", file_id=file["file_id"])

    assert [one["file_id"] for one in page["files"]] == [file["file_id"]]
    assert page["next"] is None
    assert (found["purpose"], found["owner"]["openid"]) == ("avatar", "alice")
    assert gone["text"].startswith("unknown_file: ")


async def parse(driver: Driver, kind: str, data: object) -> Any:
    """Return the package's answer to a signed event."""
    request = sign([SECRET], type=kind, data=data, now=time.time())  # type: ignore[arg-type]
    await driver.send(make="Webhook", secrets=[SECRET])
    return await driver.send(do="parse", headers=dict(request.headers), body=request.body.decode())


async def test_offered_file_is_parsed(driver: Driver) -> None:
    data = {
        "app": "red",
        "openid": "alice",
        "subject": None,
        "size": 108,
        "media_type": "image/png",
        "purpose": "",
        "sha256": "0" * 64,
    }

    answer = await parse(driver, "file.offered", data)

    assert {**answer["done"], **data} == answer["done"]


ENTRY = {"seq": 7, "kind": "login", "id": "q2Yc", "at": 1.5, "app": "red", "state": "redeemed"}


async def test_audit_entry_keeps_fields_of_later_versions(driver: Driver) -> None:
    entries = [{**ENTRY, "subject": "u-1", "risk": ["new"]}, {**ENTRY, "seq": 8, "at": 2}]

    answer = await parse(driver, "audit.entry", {"entries": entries})

    assert answer["done"]["entries"] == entries


@pytest.mark.parametrize(
    "entries",
    [
        None,
        {},
        [7],
        [{name: value for name, value in ENTRY.items() if name != "id"}],
        [{**ENTRY, "seq": "7"}],
        [{**ENTRY, "at": True}],
        [ENTRY, {**ENTRY, "subject": None}],
    ],
)
async def test_malformed_audit_entries_are_refused(driver: Driver, entries: object) -> None:
    answer = await parse(driver, "audit.entry", {"entries": entries})

    assert answer["error"] == "InvalidWebhook"
    assert "data.entries is not of type" in answer["text"]
