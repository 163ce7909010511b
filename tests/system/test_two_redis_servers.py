"""State and bus on two Redis servers: sign-ins, pushes and logouts, and faults of one of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest
from yarl import URL

from tests.support.builders import RunningBroker, StartBroker
from tests.support.clients import PhoneClient
from tests.support.logins import logs_in, new_login
from tests.support.logout_receiver import LogoutReceiver, logout_receiver
from tests.support.oidc_app import SETTINGS, ProfileDirectory, RelyingParty, relying_party
from tests.support.servers.redis import RedisServer, redis_program, running
from tests.support.waiting import eventually

LONG = 60.0


class Servers(NamedTuple):
    state: RedisServer
    bus: RedisServer


class Setup(NamedTuple):
    """Two instances. one, two: the app at each of them. receiver: of its logout tokens."""

    brokers: tuple[RunningBroker, RunningBroker]
    one: RelyingParty
    two: RelyingParty
    receiver: LogoutReceiver

    async def scan_elsewhere(self) -> tuple[str, object]:
        """Begin on a socket at one instance, scan at the other, and return what is pushed."""
        first, second = self.brokers
        async with new_login(first) as login, PhoneClient(second.url) as phone:
            answer = await phone.post("scan", {"scene": login.scene})
            assert answer.status == 200, answer.body
            return await login.heard()

    async def pushes(self) -> bool:
        """Return whether whole logins work at both instances."""
        for broker in self.brokers:
            async with self.one.http.get(f"{broker.url}/health/ready") as response:
                if response.status != 200:
                    return False
        return all([await logs_in(broker.url) for broker in self.brokers])

    async def lacks_notices(self) -> bool:
        """Return whether the first instance is not ready because of the bus."""
        async with self.one.http.get("/health/ready") as response:
            return "the bus delivers no notices" in await response.text()

    async def log_out(self, id_token: str) -> int:
        form = {"id_token_hint": id_token}
        return (await self.two.request("POST", "logout", data=form)).status


@pytest.fixture
def servers() -> Iterator[Servers]:
    with running(redis_program()) as state, running(redis_program()) as bus:
        yield Servers(state, bus)


@pytest.fixture
async def setup(
    start_broker: StartBroker, servers: Servers, tmp_path: Path
) -> AsyncIterator[Setup]:
    shared = {
        **SETTINGS,
        "state_url": servers.state.url,
        "bus_url": servers.bus.url,
        "webhooks_private": True,
        "key_file": tmp_path / "keys.json",
    }
    first = await start_broker(ProfileDirectory(), **shared)
    second = await start_broker(ProfileDirectory(), **shared, public_url=first.url)
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(logout_receiver())
        app = relying_party(first, backchannel_logout_url=receiver.url)
        one = await stack.enter_async_context(app)
        http = await stack.enter_async_context(aiohttp.ClientSession(second.url))
        two = replace(one, url=second.url, http=http)

        async def knows_the_app() -> bool:
            return (await two.post("introspect", token="x")).status == 200

        await eventually(knows_the_app)
        yield Setup((first, second), one, two, receiver)


async def test_state_and_bus_each_use_their_server(setup: Setup, servers: Servers) -> None:
    event, _ = await setup.scan_elsewhere()
    tokens = await setup.one.tokens(scope="openid")
    with servers.state.client() as state, servers.bus.client() as bus:
        stored, channels = (state.dbsize(), bus.dbsize()), state.pubsub_channels()

    assert await setup.log_out(tokens["id_token"]) == 200

    assert event == "login-scanned"
    assert stored[0] > 0
    assert (stored[1], channels) == (0, [])
    assert await setup.one.introspect(tokens["access_token"]) == {"active": False}
    await eventually(lambda: bool(setup.receiver.tokens), within=LONG)


async def test_lost_bus_delays_pushes_and_nothing_else(setup: Setup, servers: Servers) -> None:
    servers.bus.kill()

    tokens = await setup.one.tokens(scope="openid")
    event, _ = await setup.scan_elsewhere()
    assert await setup.log_out(tokens["id_token"]) == 200
    active = await setup.one.introspect(tokens["access_token"])
    await eventually(lambda: bool(setup.receiver.tokens), within=LONG)
    servers.bus.start()

    assert (event, active) == ("login-scanned", {"active": False})
    await eventually(setup.pushes, within=LONG)


async def test_broker_without_bus_is_not_ready(setup: Setup, servers: Servers) -> None:
    servers.bus.kill()

    await eventually(setup.lacks_notices, within=LONG)


async def test_lost_state_is_reported_and_grants_end(setup: Setup, servers: Servers) -> None:
    one = setup.one
    code, tokens = await one.code(), await one.tokens()
    servers.state.kill()

    statuses = [
        (await one.exchange(code)).status,
        (await one.refresh(tokens["refresh_token"])).status,
        (await one.userinfo(tokens["access_token"])).status,
        (await one.post("introspect", token=tokens["access_token"])).status,
        (await one.post("revoke", token=tokens["refresh_token"])).status,
        await setup.log_out(tokens["id_token"]),
    ]
    async with one.http.get(one.request_url(), allow_redirects=False) as response:
        query = URL(response.headers["Location"]).query
    servers.state.start()  # it has lost its data

    assert statuses == [503] * 6
    assert query["error"] == "temporarily_unavailable"
    await eventually(setup.pushes, within=LONG)
    assert (await one.exchange(code)).error == "invalid_grant"
    assert (await one.refresh(tokens["refresh_token"])).error == "invalid_grant"
    assert (await one.userinfo((await one.tokens())["access_token"])).status == 200
