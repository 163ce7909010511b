"""Tests of the calls for operators with two instances over Redis."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from broker.monitoring.ports import Profile
from broker.state import open_state
from tests.support.app_admin import RED, SECRET, TOKEN, Admin
from tests.support.builders import RunningBroker, StartBroker
from tests.support.clients import PhoneClient
from tests.support.logins import new_login
from tests.support.servers.redis import RedisServer, redis_program, running
from tests.support.waiting import eventually, opened

SILENT = Profile(started_at=1.0, token_keys=(), seal_keys=())


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with running(redis_program()) as server:
        yield server


class Instances(NamedTuple):
    """Two instances, and an operator of the first one."""

    one: RunningBroker
    two: RunningBroker
    admin: Admin

    async def names(self) -> set[str]:
        listed = (await self.admin.ask("GET", "/instances")).body["instances"]
        return {one["instance"] for one in listed}


@pytest.fixture
async def instances(
    start_broker: StartBroker, redis: RedisServer, key_file: Path
) -> AsyncIterator[Instances]:
    shared = {"state_url": redis.url, "admin_token": TOKEN, "key_file": key_file}
    one = await start_broker(instance="one", **shared)
    two = await start_broker(instance="two", **shared)
    async with Admin(one.admin) as admin:
        running = Instances(one, two, admin)

        async def has_seen_both() -> bool:
            return await running.names() == {"one", "two"}

        await eventually(has_seen_both)
        yield running


async def test_logins_of_both_instances_are_listed(instances: Instances) -> None:
    async with new_login(instances.one) as first, new_login(instances.two) as second:
        answer = (await instances.admin.ask("GET", "/logins")).body
        login_id = second.named["login_id"]
        ended = await instances.admin.ask("DELETE", f"/logins/{login_id}")
        event, _ = await second.heard()

    found = {one["login_id"]: one["instance"] for one in answer["logins"]}
    assert found == {first.named["login_id"]: "one", login_id: "two"}
    assert (answer["total"], answer["missing"]) == (2, [])
    assert (ended.status, event) == (204, "login-expired")


async def test_instance_without_an_answer_is_missing(
    instances: Instances, redis: RedisServer
) -> None:
    state = open_state(redis.url)
    await opened(state)

    async def has_seen_silent() -> bool:
        await state.instances.publish("silent", SILENT)
        return "silent" in await instances.names()

    await eventually(has_seen_silent)
    await state.close()

    async with new_login(instances.two):
        answer = (await instances.admin.ask("GET", "/logins")).body

    assert (len(answer["logins"]), answer["missing"]) == (1, ["silent"])


async def test_answers_contain_no_secrets(instances: Instances) -> None:
    admin = instances.admin
    await admin.ask("POST", "/apps", RED)
    secret = (await admin.ask("POST", "/apps/red/rotate-secret")).body["api_secret"]
    async with new_login(instances.two) as login, PhoneClient(instances.two.url, "alice") as phone:
        paths = [
            *("/logins", "/sessions?app=default&openid=alice", "/signins?subject=alice"),
            *("/apps", "/pool", "/instances", "/keys", "/config", "/openapi.json"),
        ]
        answers = [await admin.ask("GET", path) for path in paths]
        canaries = {
            login.scene,
            login._owned["secret"],
            phone.session["skey"],
            secret,
            SECRET,
            TOKEN,
        }

    text = json.dumps([answer.body for answer in answers])
    assert [answer.status for answer in answers] == [200] * len(paths)
    assert login.named["login_id"] in text
    assert not [canary for canary in canaries if canary in text]
    assert '"d":' not in text  # the private part of a JWK
