"""A Redis that is full, read-only, evicting or restarted is detected, reported and survived."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from broker.infrastructure.crypto.sealing import SealKeyFile, SecretBox
from broker.monitoring.instance_watch import InstanceWatch
from broker.monitoring.monitor import Monitor
from broker.monitoring.ports import InstanceFacts, Profile
from broker.state import open_state
from broker.tokens.issuer import TokenIssuer
from broker.tokens.keys import KeyRings, SigningKeyFile
from tests.support.builders import RunningBroker, StartBroker
from tests.support.clients import PhoneClient, PythonBrowser
from tests.support.logins import logs_in
from tests.support.servers.redis import (
    KEPT,
    REPLICA,
    START,
    RedisServer,
    cluster,
    redis_program,
    running,
)
from tests.support.waiting import eventually, opened

LONG = 30.0
"""Seconds. A limit that also a busy machine keeps."""


STARTED = {"instance started", "redis unavailable", "redis recovered"}
"""Log events of a start. The two of Redis: on a busy machine, the first connect may time out."""


def events_of(lines: Sequence[EventDict]) -> list[str]:
    return [line["event"] for line in lines]


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with running(redis_program(), *KEPT) as server:
        yield server


@pytest.fixture
def replica(redis: RedisServer) -> Iterator[RedisServer]:
    with running(redis_program(), *REPLICA, str(redis.port)) as server:
        yield server


@pytest.fixture
async def broker(redis: RedisServer, start_broker: StartBroker) -> RunningBroker:
    return await start_broker(state_url=redis.url)


@pytest.fixture
async def browser(broker: RunningBroker) -> AsyncIterator[PythonBrowser]:
    browser = PythonBrowser(["websocket"])
    await browser.connect(broker.url)
    yield browser
    await browser.close()


@pytest.fixture
async def phone(broker: RunningBroker) -> AsyncIterator[PhoneClient]:
    async with PhoneClient(broker.url) as phone:
        yield phone


async def readiness(broker: RunningBroker) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession(broker.url) as http,
        http.get("/health/ready") as response,
    ):
        return response.status, (await response.json()).get("error_description", "")


async def is_ready(broker: RunningBroker) -> bool:
    return (await readiness(broker))[0] == 200


async def refuses_writes(broker: RunningBroker) -> bool:
    return (await readiness(broker))[1].startswith("the state refuses writes")


async def lacks_replicas(broker: RunningBroker) -> bool:
    return (await readiness(broker))[1].startswith("the state lacks replicas")


async def has_old_probe(broker: RunningBroker) -> bool:
    return await readiness(broker) == (503, "redis has not answered a recent probe")


async def names_other_keys(broker: RunningBroker) -> bool:
    return (await readiness(broker))[1].startswith("token keys differ from those of")


async def metric(broker: RunningBroker, name: str) -> float:
    async with aiohttp.ClientSession() as http, http.get(f"{broker.admin}/metrics") as response:
        found = re.findall(rf"^{re.escape(name)} (\S+)$", await response.text(), re.M)
    return float(found[0]) if found else -1.0


async def has_metric(broker: RunningBroker, name: str, value: float) -> bool:
    return await metric(broker, name) == value


def configure(server: RedisServer, **options: object) -> None:
    with server.client() as client:
        for name, value in options.items():
            client.config_set(name.replace("_", "-"), str(value))


FULL = {"maxmemory": 1}
READ_ONLY = {"min_replicas_to_write": 1}
"""With this option Redis refuses writes with NOREPLICAS."""


@pytest.mark.parametrize(("options", "word"), [(FULL, "OOM"), (READ_ONLY, "NOREPLICAS")])
async def test_broker_is_not_ready_if_redis_refuses_writes(
    redis: RedisServer, broker: RunningBroker, options: dict[str, Any], word: str
) -> None:
    with capture_logs() as lines:
        configure(redis, **options)
        await eventually(lambda: refuses_writes(broker), within=LONG)
        for _ in range(20):
            assert not await logs_in(broker.url)
        assert (await readiness(broker))[1].endswith(word)
        assert await metric(broker, "scanlogin_state_refuses_writes") == 1

        configure(redis, **dict.fromkeys(options, 0))
        await eventually(lambda: is_ready(broker), within=LONG)
        assert await logs_in(broker.url)

    refusals = [item for item in lines if item["event"] == "redis refuses commands"]
    assert len(refusals) == 1


async def test_broker_is_not_ready_if_cluster_node_is_full(start_broker: StartBroker) -> None:
    with cluster(3) as nodes:
        places = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
        broker = await start_broker(state_url=f"redis+cluster://{places}")
        await eventually(lambda: is_ready(broker), within=LONG)

        configure(nodes[-1], **FULL)
        await eventually(lambda: refuses_writes(broker), within=LONG)

        configure(nodes[-1], maxmemory=0)
        await eventually(lambda: is_ready(broker), within=LONG)


async def test_broker_is_not_ready_while_redis_is_replica(
    redis: RedisServer, broker: RunningBroker
) -> None:
    with running(redis_program()) as other, capture_logs() as lines:
        with redis.client() as client:
            client.execute_command("REPLICAOF", "127.0.0.1", str(other.port))
            await eventually(lambda: refuses_writes(broker), within=LONG)

            client.execute_command("REPLICAOF", "NO", "ONE")

        await eventually(lambda: is_ready(broker), within=LONG)
        assert await logs_in(broker.url)
    refusals = [item for item in lines if item["event"] == "redis refuses commands"]
    assert len(refusals) == 1


async def test_broker_without_its_replica_is_not_ready(
    redis: RedisServer, replica: RedisServer, start_broker: StartBroker
) -> None:
    broker = await start_broker(state_url=redis.url, replicas=1)
    await eventually(lambda: has_metric(broker, "scanlogin_state_lacks_replicas", 0), within=LONG)
    with capture_logs() as lines:
        replica.pause()
        await eventually(lambda: lacks_replicas(broker), within=LONG)
        for _ in range(3):
            assert not await logs_in(broker.url)
        assert await metric(broker, "scanlogin_state_lacks_replicas") == 1
        assert events_of(lines).count("redis lacks replicas") == 1

        replica.resume()
        await eventually(lambda: is_ready(broker), within=LONG)

    await eventually(lambda: logs_in(broker.url), within=LONG)
    await eventually(lambda: has_metric(broker, "scanlogin_state_lacks_replicas", 0), within=LONG)
    assert "redis has enough replicas" in events_of(lines)


async def test_broker_without_permission_to_wait_is_not_ready(
    redis: RedisServer, start_broker: StartBroker
) -> None:
    with redis.client() as client:
        client.execute_command("ACL", "SETUSER", "bob", "on", ">pw", "~*", "&*", "+@all", "-wait")
    url = f"redis://bob:pw@127.0.0.1:{redis.port}"

    broker = await start_broker(ready=False, state_url=url, replicas=1)

    await eventually(lambda: refuses_writes(broker), within=LONG)


@pytest.mark.parametrize("form", ["redis", "cluster"])
async def test_broker_without_answers_of_redis_is_not_ready(
    start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """The connections stay open, and no timeout of a command notices that."""
    for module in ("reconnector", "cluster", "urls"):
        monkeypatch.setattr(f"broker.infrastructure.redis.{module}.REPLY_TIMEOUT", 3600.0)
    with ExitStack() as stack:
        url, nodes = START[form](stack)
        broker = await start_broker(state_url=url)
        for node in nodes:
            node.pause()

        await eventually(lambda: has_old_probe(broker), within=LONG)

        for node in nodes:
            node.resume()
        await eventually(lambda: is_ready(broker), within=LONG)


async def test_evicting_redis_is_logged_and_measured(
    redis: RedisServer, start_broker: StartBroker
) -> None:
    configure(redis, maxmemory="100mb", maxmemory_policy="allkeys-lru")

    with capture_logs() as lines:
        broker = await start_broker(state_url=redis.url)
        await eventually(lambda: "redis may evict keys" in events_of(lines), within=LONG)

    assert events_of(lines).count("redis may evict keys") == 1
    assert await metric(broker, "scanlogin_state_evicts") == 1
    await eventually(lambda: is_ready(broker), within=LONG)


async def test_eviction_enabled_later_is_detected(
    redis: RedisServer, start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.monitoring.monitor.EVICTION_INTERVAL", 0.0)
    broker = await start_broker(state_url=redis.url)
    assert await metric(broker, "scanlogin_state_evicts") == 0

    with capture_logs() as lines:
        configure(redis, maxmemory="100mb", maxmemory_policy="volatile-lru")
        await eventually(lambda: lines, within=LONG)
        configure(redis, maxmemory_policy="noeviction")
        await eventually(lambda: len(lines) == 2, within=LONG)

    assert [item["event"] for item in lines] == ["redis may evict keys", "redis evicts no keys"]


async def test_missing_info_permission_is_not_reported(
    redis: RedisServer, start_broker: StartBroker
) -> None:
    with redis.client() as client:
        client.execute_command("ACL", "SETUSER", "bob", "on", ">pw", "~*", "&*", "+@all", "-info")

    with capture_logs() as lines:
        broker = await start_broker(state_url=f"redis://bob:pw@127.0.0.1:{redis.port}")

    assert not {*events_of(lines)} - STARTED
    await eventually(lambda: is_ready(broker), within=LONG)


async def test_broker_starts_without_info_command(start_broker: StartBroker) -> None:
    with running(redis_program(), *KEPT, "--rename-command", "INFO", "") as server:
        with capture_logs() as lines:
            broker = await start_broker(state_url=server.url)

        assert not {*events_of(lines)} - STARTED
        await eventually(lambda: is_ready(broker), within=LONG)


async def test_evicted_login_expires_and_new_login_works(
    redis: RedisServer, broker: RunningBroker, browser: PythonBrowser
) -> None:
    """Redis evicts every key, as if other keys filled the memory."""
    await browser.emit("begin", {})
    with redis.client() as client:
        client.config_set("maxmemory-policy", "allkeys-random")
        client.config_set("maxmemory", "1")
        await eventually(lambda: _is_empty(client), within=LONG)
        client.config_set("maxmemory", "0")

    event, _ = await browser.push()

    assert event == "login-expired"
    await eventually(lambda: is_ready(broker), within=LONG)
    assert await logs_in(broker.url)


def _is_empty(client: Any) -> bool:
    """Write, which makes the server evict, and return whether no login is left."""
    client.execute_command("PUBLISH", "x", "x")
    return not [key for key in client.scan_iter("*:login:*")]


def restart(server: RedisServer) -> None:
    server.stop()
    server.start()


def flush_scripts(server: RedisServer) -> None:
    with server.client() as client:
        client.script_flush()


@pytest.mark.parametrize("disturb", [restart, flush_scripts])
async def test_login_survives_restarts_between_steps(
    redis: RedisServer,
    broker: RunningBroker,
    browser: PythonBrowser,
    phone: PhoneClient,
    disturb: Callable[[RedisServer], None],
) -> None:
    async def after_disturbance() -> None:
        await asyncio.to_thread(disturb, redis)
        await eventually(lambda: is_ready(broker), within=LONG)

    login = await browser.emit("begin", {})
    owned = {"login_id": login["login_id"], "secret": login["secret"]}
    await after_disturbance()
    assert (await phone.post("scan", {"scene": login["scene"]})).status == 200
    await after_disturbance()
    assert (await phone.post("confirm", {"login_id": login["login_id"]})).status == 200
    await after_disturbance()

    assert "access_token" in await browser.emit("redeem", owned)


KEYS = {"token": "key_file", "seal": "seal_file"}
"""The setting with the file of each kind of key."""


@pytest.mark.parametrize("kind", KEYS)
async def test_instances_with_different_keys_are_reported(
    redis: RedisServer, start_broker: StartBroker, tmp_path: Path, kind: str
) -> None:
    files: dict[str, object] = {name: tmp_path / f"{name}.json" for name in KEYS.values()}
    other = {KEYS[kind]: tmp_path / "other.json"}
    first = await start_broker(state_url=redis.url, **files)

    with capture_logs() as lines:
        second = await start_broker(ready=False, state_url=redis.url, **{**files, **other})
        await eventually(lambda: f"{kind} keys differ" in events_of(lines), within=LONG)

    assert events_of(lines).count(f"{kind} keys differ") == 1
    assert await metric(second, f'scanlogin_keys_differ{{keys="{kind}"}}') == 1
    await eventually(lambda: is_ready(first), within=LONG)
    if kind == "token":
        await eventually(lambda: names_other_keys(second), within=LONG)
    else:
        await eventually(lambda: is_ready(second), within=LONG)


async def test_different_keys_of_id_tokens_are_reported(
    redis: RedisServer, start_broker: StartBroker, tmp_path: Path
) -> None:
    """Copies of the file of an older version, each completed by another instance."""
    files = [tmp_path / "one.json", tmp_path / "two.json"]
    older = KeyRings.new(["ES256"], 0)
    for file in files:
        SigningKeyFile(file).save(older)
    await start_broker(state_url=redis.url, key_file=files[0])

    second = await start_broker(ready=False, state_url=redis.url, key_file=files[1])

    await eventually(lambda: names_other_keys(second), within=LONG)


async def test_newer_instance_is_ready_after_older_ends(
    redis: RedisServer, start_broker: StartBroker
) -> None:
    store = open_state(redis.url)
    await opened(store)
    older = Profile(started_at=1.0, token_keys=("other",), seal_keys=())
    await store.instances.publish("older", older)
    broker = await start_broker(ready=False, state_url=redis.url)
    await eventually(lambda: names_other_keys(broker), within=LONG)

    await store.instances.leave("older")

    await eventually(lambda: is_ready(broker), within=LONG)
    await store.close()


async def test_rotated_keys_are_not_reported_as_different(
    redis: RedisServer, tmp_path: Path
) -> None:
    """This holds before and after an instance has read the rotated file."""
    file, seal = SigningKeyFile(tmp_path / "keys.json"), SealKeyFile(tmp_path / "seal.json")
    store = open_state(redis.url)
    await opened(store)
    now = store.clock()
    monitors = []
    for name in ("one", "two"):
        issuer = TokenIssuer(
            file=file, algorithm="ES256", issuer="x", lifetime=600, host_clock=lambda: now
        )
        seal_keys = SecretBox(seal.keys)
        seal_keys.load()
        monitors.append(
            Monitor(
                state=store,
                token_key_ids=issuer.key_ids,
                signing_key_ids=issuer.signing_key_ids,
                secret_box=seal_keys,
                instance=name,
                observe=InstanceWatch(name).observe,
                facts=InstanceFacts,
            )
        )
    await asyncio.gather(*(item.open() for item in monitors))
    rings = file.load()
    assert rings is not None
    file.save(rings.rotated(now=now, token_lifetime=600, hint_lifetime=0, algorithm="ES256"))
    seal.add()

    with capture_logs() as lines:
        monitors[0]._secret_box.load()
        for monitor in monitors:
            await monitor.check()  # only the first monitor has read both files
            now += 5
            await monitor.check()
            assert monitor.unready_reason() is None

    assert not lines
    await store.close()
