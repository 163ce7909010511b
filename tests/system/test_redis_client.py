"""The Redis client fails fast while Redis is unavailable, and reconnects automatically."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import redis
from msgspec.structs import replace
from redis.asyncio import RedisCluster
from redis.asyncio.connection import Connection
from structlog.testing import capture_logs

from broker.bus import open_bus
from broker.errors import Unavailable
from broker.infrastructure.coordination import Bus, Notice
from broker.infrastructure.redis import Redis, open_redis
from broker.infrastructure.redis.connection import ErrorReply, RedisConnection, connect
from broker.infrastructure.redis.reconnector import RECONNECT_DELAYS
from broker.infrastructure.redis.scripts import script
from broker.infrastructure.redis.server import RedisServer as SingleServer
from broker.infrastructure.redis.server_clock import ServerClock
from broker.login.model import Login
from broker.login.ports import ChangedLogins, LoginStore, SwapResult
from broker.monitoring.ports import INSTANCE_TTL, Profile
from broker.pool.model import OfferedCode
from broker.sessions.model import Session, new_session_id
from broker.sessions.ports import SESSIONS_MAX
from broker.state import StateBackend, open_state
from broker.state.redis.logins import RedisLoginStore
from tests.support.builders import ALICE, Clock, a_login
from tests.support.certificate import certificate
from tests.support.environment import free_port
from tests.support.loop_clock import LoopClock, replaced_clock
from tests.support.servers.redis import RedisServer, cluster, redis_program, running, valkey_program
from tests.support.waiting import eventually, opened, opened_bus

PROGRAMS = {"redis": redis_program, "valkey": valkey_program}


@pytest.fixture(params=PROGRAMS)
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with running(PROGRAMS[request.param]()) as server:
        yield server


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Redis]:
    link = open_redis(url, "test")
    await link.open()
    try:
        yield link
    finally:
        await link.close()


@pytest.fixture
async def link(server: RedisServer) -> AsyncIterator[Redis]:
    async with connected(server.url) as link:
        await eventually(lambda: link.unavailable_reason() is None)
        yield link


async def works(link: Redis) -> bool:
    try:
        await link.call("GET", "x")
    except Unavailable:
        return False
    return True


async def test_replies_match_order_of_commands(link: Redis) -> None:
    replies = await asyncio.gather(*(link.call("INCR", "count") for _ in range(5_000)))

    assert replies == list(range(1, 5_001))


class RecordingTransport:
    """A transport that records every write."""

    def __init__(self, transport: Any) -> None:
        self.transport = transport
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)
        self.transport.write(data)

    def abort(self) -> None:
        self.transport.abort()


@pytest.fixture
async def wire(server: RedisServer) -> AsyncIterator[RedisConnection]:
    wire = await connect(lambda: Connection(port=server.port, protocol=3))
    yield wire
    await wire.close()


async def test_commands_of_one_loop_iteration_share_one_write(wire: RedisConnection) -> None:
    recording = wire._transport = RecordingTransport(wire._transport)

    replies = [wire.send("ECHO", word) for word in ("one", "two", "three")]

    assert await asyncio.gather(*replies) == [b"one", b"two", b"three"]
    assert [data.count(b"ECHO") for data in recording.written] == [3]
    assert await wire.send("ECHO", "four") == b"four"
    assert len(recording.written) == 2


async def test_unsent_command_of_lost_connection_fails(wire: RedisConnection) -> None:
    recording = wire._transport = RecordingTransport(wire._transport)

    reply = wire.send("ECHO", "one")
    wire.abort()

    with pytest.raises(ConnectionError):
        await reply
    await asyncio.sleep(0)
    assert not recording.written


async def test_cancelled_command_does_not_shift_replies(link: Redis) -> None:
    await link.call("SET", "name", "alice")
    cancelled = asyncio.create_task(link.call("GET", "other"))
    await asyncio.sleep(0)
    cancelled.cancel()

    assert await link.call("GET", "name") == b"alice"


async def test_calls_to_paused_server_fail_fast(
    server: RedisServer, link: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A half-open connection behaves like a paused server: it stays open without data."""
    server.pause()
    with pytest.raises(Unavailable):
        await link.call("GET", "x")

    monkeypatch.setattr("broker.infrastructure.redis.reconnector.CONNECTION_WAIT_TIMEOUT", 0.0)
    with replaced_clock(runs=False):  # so a call that waits for a time would never return
        for _ in range(100):
            with pytest.raises(Unavailable):
                await link.call("GET", "x")
    assert link.unavailable_reason()

    server.resume()
    await eventually(lambda: works(link))
    assert link.unavailable_reason() is None


async def test_client_reconnects_to_restarted_server(server: RedisServer, link: Redis) -> None:
    server.kill()
    with pytest.raises(Unavailable):
        await link.call("GET", "x")

    server.start()

    await eventually(lambda: works(link))


async def test_call_waits_for_short_outage(
    server: RedisServer, link: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.infrastructure.redis.reconnector.CONNECTION_WAIT_TIMEOUT", 60.0)
    server.kill()
    await eventually(lambda: link.unavailable_reason())
    server.start()

    assert await works(link)


async def test_client_connects_to_server_started_later() -> None:
    server = RedisServer(redis_program())
    async with connected(server.url) as link:
        assert link.unavailable_reason()
        with pytest.raises(Unavailable):
            await link.call("GET", "x")
        server.start()
        await eventually(lambda: works(link))
    server.close()


async def test_client_reconnects_if_master_becomes_replica(
    server: RedisServer, link: Redis
) -> None:
    """This happens after a failover that the client has not noticed."""
    first_id = await link.call("CLIENT", "ID")
    with server.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(Unavailable):
            await link.call("SET", "x", "y")
        await eventually(lambda: works(link))
        assert await link.call("CLIENT", "ID") != first_id
        client.execute_command("REPLICAOF", "NO", "ONE")

    async def writes() -> bool:
        try:
            await link.call("SET", "x", "y")
        except Unavailable:
            return False
        return True

    await eventually(writes)


@pytest.mark.parametrize(
    ("reply", "word"),
    [
        ("READONLY You can't write against a read only replica.", "READONLY"),
        (
            "ERR Error running script (call to f_49a0): @user_script:2: @user_script: 2: "
            "-READONLY You can't write against a read only replica.",
            "READONLY",
        ),
        ("ERR value is not an integer or out of range", "ERR"),
    ],
)
def test_error_word_is_read_from_script_errors(reply: str, word: str) -> None:
    assert ErrorReply(reply).code == word


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[RedisServer]]:
    with cluster(3) as nodes:
        yield nodes


async def test_client_reconnects_to_restarted_cluster(nodes: list[RedisServer]) -> None:
    for node in nodes:
        node.kill()
    with capture_logs() as lines:
        await check_recovery(nodes)

    events = [line["event"] for line in lines if " commands" not in line["event"]]
    assert events[0] == "redis unavailable"
    assert events[-1] == "redis recovered"  # an election may interrupt the recovery


async def check_recovery(nodes: list[RedisServer]) -> None:
    async with connected(cluster_url(nodes)) as link:
        for _ in range(5):
            with pytest.raises(Unavailable):
                await link.call("GET", "x")
        assert link.unavailable_reason()

        for node in nodes:
            node.start()

        await eventually(lambda: works(link))
        await eventually(lambda: link.unavailable_reason() is None)


async def test_close_after_lost_cluster_node_closes_other_connections() -> None:
    with cluster(3) as nodes, nodes[0].client() as client:
        async with connected(cluster_url(nodes)) as link:
            await eventually(lambda: works(link))
            nodes[2].kill()
            with pytest.raises(Unavailable):
                await asyncio.gather(*(link.call("GET", key) for key in "abcdefgh"))

        await eventually(lambda: names_of_clients(client).count("scan-login") == 0)


def names_of_clients(client: redis.Redis) -> list[str]:
    return [found["name"] for found in client.client_list()]


async def test_temporary_cluster_refusal_is_outage(nodes: list[RedisServer]) -> None:
    """redis-py raises these errors without their error word."""
    async with connected(cluster_url(nodes)) as link:
        await eventually(lambda: works(link))
        for node in nodes:
            node.client().config_set("maxmemory", 1)
        with pytest.raises(Unavailable):
            await link.call("SET", "x", "y")
        for node in nodes:
            node.client().config_set("maxmemory", 0)

        await link.call("SET", "x", "y")
        with pytest.raises(ErrorReply, match="ERR value is not an integer"):
            await link.call("INCR", "x")


def cluster_url(nodes: list[RedisServer]) -> str:
    return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)


async def test_cluster_reports_memory_policy_of_each_node(nodes: list[RedisServer]) -> None:
    async with connected(cluster_url(nodes)) as link:
        await eventually(lambda: works(link))
        assert [item.evicts for item in await link.memory()] == [False] * 3

        for name, value in {"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}.items():
            nodes[0].client().config_set(name, value)
        assert sorted(item.evicts for item in await link.memory()) == [False, False, True]

        nodes[0].client().config_set("maxmemory", 0)


async def test_flushed_script_is_sent_again(server: RedisServer, link: Redis) -> None:
    greeting_script = script("return ARGV[1]")
    for _ in range(2):
        assert await link.run(greeting_script, [], "hello") == b"hello"
        with server.client() as client:
            client.script_flush()


async def test_invalid_command_raises_error_reply(link: Redis) -> None:
    await link.call("SET", "text", "x")

    with pytest.raises(ErrorReply, match="ERR value is not an integer"):
        await link.call("INCR", "text")


async def test_wrong_redis_password_is_reported() -> None:
    with running(redis_program(), "--requirepass", "sesame") as server:
        async with connected(server.url) as link:
            await eventually(lambda: "authenticat" in str(link.unavailable_reason()))
        url = f"redis://:sesame@127.0.0.1:{server.port}/3"
        async with connected(url) as link:
            await eventually(lambda: works(link))
        bus = open_bus(url)
        await opened_bus(bus)
        async with bus.listen("one") as notices:
            await bus.publish("one", Notice("login-scanned", "x"))
            assert await anext(notices) == Notice("login-scanned", "x")
        await bus.close()


async def test_missing_time_permission_is_reported_without_reconnect_storm(
    server: RedisServer, still_clock: LoopClock
) -> None:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "bob", "on", ">pw", "~*", "+@all", "-time")
        url = f"redis://bob:pw@127.0.0.1:{server.port}"
        async with connected(server.url) as other, connected(url) as link:
            assert isinstance(link, SingleServer)
            outage = link._reconnector._outage

            def has_failed(attempts: int) -> bool:
                return outage.failures >= attempts

            for attempts in range(1, 9):
                await still_clock.until(partial(has_failed, attempts))
                for _ in range(50):  # an attempt without a delay would happen here
                    await other.call("PING")
                await still_clock.move(1.25 * max(RECONNECT_DELAYS))

            assert outage.failures <= attempts + 1
            assert "NOPERM" in str(link.unavailable_reason())


async def test_documented_redis_permissions_suffice(server: RedisServer, clock: Clock) -> None:
    page = Path("docs/alerts.md").read_text()
    [rules] = re.findall(r"`NOPERM` .*?`(.*?)`", page)
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "bob", "on", ">pw", "-@all", *rules.split())
    url = f"redis://bob:pw@127.0.0.1:{server.port}"
    store, bus = open_state(url, clock, replicas=1), open_bus(url)
    login = a_login(clock)
    await opened(store)
    await opened_bus(bus)

    await store.logins.add(login)
    assert await store.logins.by_scene(login.scene) == login
    assert await store.logins.changed({login.id: 0}) == {}
    await take_a_change(store, login)
    with pytest.raises(Unavailable, match="not on enough replicas"):
        await store.logins.secure(login)
    async with bus.listen("one") as notices:
        await bus.publish("one", Notice("login-scanned", "x"))
        assert await anext(notices) == Notice("login-scanned", "x")
    await use_other_stores(store, clock)
    assert store.refusal() is None
    assert not await store.evicts()

    await bus.close()
    await store.close()


async def take_a_change(store: StateBackend, login: Login) -> None:
    """Take the changes before and after one is stored."""
    shard = login.id[0]
    await store.logins.take_changes("one", [shard])
    after = replace(login, instance="one", version=login.version + 1)
    assert await store.logins.swap(replace(login, instance="one"), after, Notice("x", login.id))
    assert await store.logins.take_changes("one", [shard]) == ChangedLogins([login.id], [])
    assert await store.logins.swap(after, login)  # without a notice


@pytest.mark.parametrize("command", ["exists", "sadd", "sismember", "smembers"])
async def test_missing_permission_makes_whole_shards_changed(
    server: RedisServer, clock: Clock, command: str
) -> None:
    login = a_login(clock, instance="one")
    shard = login.id[0]
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "bob", "on", ">pw", "~*", "&*", "+@all")
    url = f"redis://bob:pw@127.0.0.1:{server.port}"
    store = open_state(url, clock)
    await opened(store)
    await store.logins.add(login)
    await store.logins.take_changes("one", [shard])
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "bob", f"-{command}")

    assert await store.logins.swap(login, replace(login, version=1), Notice("x", login.id))

    assert await store.logins.take_changes("one", [shard]) == ChangedLogins([], [shard])
    assert (await store.logins.get(login.id)) == replace(login, version=1)
    await store.close()


async def use_other_stores(store: StateBackend, clock: Clock) -> None:
    """Use every command of sessions, pools, leader leases and profiles."""
    end = clock() + 60
    for _ in range(SESSIONS_MAX + 1):
        session = Session(
            id=new_session_id(ALICE),
            skey_hash=b"h",
            phone=ALICE,
            expires_at=end,
            latest_end=end,
        )
        await store.sessions.put(session)
    assert await store.sessions.extend(session, end)
    assert await store.sessions.end(ALICE) == SESSIONS_MAX
    await store.code_leases.offer(
        "shop", [OfferedCode(number=0, drawing=0, scene="s", picture="p")]
    )
    leased = await store.code_leases.lease("shop", until=end, cooldown=1)
    assert leased is not None
    await store.code_leases.return_code("shop", 0, leased.generation, cooldown=1)
    clock.time += 2
    assert await store.code_leases.lease("shop", until=end, cooldown=1) is not None
    await store.code_leases.withdraw("shop", {0: 0})
    assert (await store.code_leases.level("shop")).total == 0
    assert await store.leader_leases.acquire("pool", "one", seconds=1)
    await store.leader_leases.release("pool", "one")
    profile = Profile(started_at=clock(), token_keys=("t",), seal_keys=("s",))
    await store.instances.publish("one", profile)
    clock.time += INSTANCE_TTL + 1
    assert await store.instances.publish("two", profile) == {}
    await store.instances.leave("two")


async def test_tls_connection_verifies_certificate(tmp_path: Path) -> None:
    certificate(tmp_path)
    port = free_port()
    files = ("--tls-cert-file", f"{tmp_path}/cert.pem", "--tls-key-file", f"{tmp_path}/key.pem")
    options = ("--tls-port", str(port), "--tls-auth-clients", "no", *files)
    with running(redis_program(), *options):
        async with connected(f"rediss://localhost:{port}?ssl_ca_certs={tmp_path}/cert.pem") as link:
            await eventually(lambda: works(link))
        async with connected(f"rediss://localhost:{port}") as link:
            await eventually(lambda: "certificate" in str(link.unavailable_reason()).lower())


async def test_bus_detects_missed_heartbeats(server: RedisServer) -> None:
    bus = open_bus(server.url)
    await opened_bus(bus)
    async with bus.listen("one") as notices:
        server.pause()
        with pytest.raises(Unavailable):
            await anext(notices)
        with pytest.raises(Unavailable):
            async with bus.listen("one"):
                pass
        server.resume()
    await eventually(lambda: receives_notice(bus))
    await bus.close()


async def receives_notice(bus: object) -> bool:
    try:
        async with bus.listen("one") as notices:  # type: ignore[attr-defined]
            await bus.publish("one", Notice("login-scanned", "x"))  # type: ignore[attr-defined]
            return bool(await anext(notices))
    except Unavailable:
        return False


async def listen_forever(link: Redis) -> None:
    async with link.subscribe("channel") as feed:
        await feed.get()


async def test_timeout_of_a_subscriber_is_not_an_outage(link: Redis) -> None:
    with pytest.raises(TimeoutError):
        async with link.subscribe("channel"):
            raise TimeoutError


async def test_cancelled_subscription_ends(link: Redis) -> None:
    """redis-py swallows a cancellation while it connects; the broker must still end."""
    for iterations in range(30):
        listening = asyncio.create_task(listen_forever(link))
        for _ in range(iterations):
            await asyncio.sleep(0)

        listening.cancel()

        ended, _ = await asyncio.wait([listening], timeout=30)
        assert ended, f"cancelled after {iterations} iterations of the event loop"


@pytest.mark.parametrize("raised", [ConnectionError, None], ids=["raises", "returns"])
async def test_cluster_connection_closes_if_cancellation_is_swallowed(
    nodes: list[RedisServer], monkeypatch: pytest.MonkeyPatch, raised: type[Exception] | None
) -> None:
    """Otherwise a broker would never end."""
    async with connected(cluster_url(nodes)) as link:
        is_called = asyncio.Event()

        async def swallow(client: RedisCluster) -> None:
            is_called.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if raised is not None:
                    raise raised from None

        monkeypatch.setattr(RedisCluster, "initialize", swallow)
        async with asyncio.timeout(30):
            await is_called.wait()
        ended, _ = await asyncio.wait([asyncio.create_task(link.close())], timeout=30)
        monkeypatch.undo()

        assert ended


async def test_invalid_notice_is_ignored(server: RedisServer) -> None:
    bus = open_bus(server.url)
    await opened_bus(bus)
    async with bus.listen("one") as notices:
        with server.client() as client:
            for nonsense in (b"", b"\xff", b"[]", b"{}", b"null", b'["e",1]', b"[" * 100_000):
                client.publish("scanlogin:instance:one", nonsense)
            client.publish("scanlogin:instance:one", '["e", "x"]')

        assert await anext(notices) == Notice("e", "x")
    await bus.close()


class Subscribed(NamedTuple):
    logins: LoginStore
    bus: Bus
    notices: AsyncIterator[Notice]


@asynccontextmanager
async def subscribed(
    server: RedisServer, url: str, clock: Clock, *, publishes: bool
) -> AsyncIterator[Subscribed]:
    """A state at `url`, and the notices that the instance `one` receives."""
    bus, store = open_bus(server.url), open_state(url, clock, publishes=publishes)
    await asyncio.gather(opened_bus(bus), opened(store))
    async with bus.listen("one") as notices:
        yield Subscribed(store.logins, bus, notices)
    await store.close()
    await bus.close()


@pytest.mark.parametrize("publishes", [True, False])
async def test_change_and_notice_are_one_round_trip(
    server: RedisServer, clock: Clock, publishes: bool
) -> None:
    before = a_login(clock, instance="one")
    after = replace(before, version=1)
    async with subscribed(server, server.url, clock, publishes=publishes) as listener:
        await listener.logins.add(before)
        swapped = await listener.logins.swap(before, after, Notice("e", before.id))
        conflict = await listener.logins.swap(before, after, Notice("too late", before.id))
        await listener.bus.publish("one", Notice("last", ""))

        assert swapped is (SwapResult.STORED_AND_PUBLISHED if publishes else SwapResult.STORED)
        assert conflict is SwapResult.CONFLICT
        if publishes:
            assert await anext(listener.notices) == Notice("e", before.id)
        assert await anext(listener.notices) == Notice("last", "")


async def test_change_is_stored_if_notice_is_forbidden(server: RedisServer, clock: Clock) -> None:
    with server.client() as client:
        client.execute_command(
            "ACL", "SETUSER", "mute", "on", ">pw", "~*", "+@all", "resetchannels"
        )
    before = a_login(clock, instance="one")
    after = replace(before, version=1)
    url = server.url.replace("redis://", "redis://mute:pw@")
    async with subscribed(server, url, clock, publishes=True) as listener:
        await listener.logins.add(before)

        swapped = await listener.logins.swap(before, after, Notice("e", before.id))

        assert swapped is SwapResult.STORED
        assert await listener.logins.get(before.id) == after


async def test_clock_follows_redis_server(server: RedisServer, link: Redis) -> None:
    before = link.clock()
    with server.client() as client:
        seconds, microseconds = client.time()

    assert before - 2 < seconds + microseconds / 1e6 < link.clock() + 2


def test_clock_offset_uses_midpoint_of_request(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "broker.infrastructure.redis.server_clock.time",
        SimpleNamespace(monotonic=clock, time=lambda: 0.0),
    )
    server_clock = ServerClock()
    asked_at = clock()
    clock.time += 2

    server_clock.set([b"1000", b"500000"], asked_at=asked_at)

    assert server_clock() == 1001.5


async def test_login_on_replica_is_secure(clock: Clock) -> None:
    with (
        running(redis_program()) as master,
        running(redis_program(), "--replicaof", f"127.0.0.1 {master.port}") as replica,
    ):
        store = open_state(master.url, clock, replicas=1)
        await opened(store)
        login = a_login(clock)
        await store.logins.add(login)
        await eventually(lambda: is_secure(store.logins, login))
        with replica.client() as client:
            assert client.exists(*client.keys("*login*"))

        replica.pause()
        with pytest.raises(Unavailable, match="not on enough replicas"):
            await store.logins.secure(login)
        assert await store.logins.get(login.id) == login
        await store.close()


async def test_login_missing_on_new_master_is_not_secure(clock: Clock) -> None:
    """A failover may happen between the write on one connection and the wait on the other."""
    with (
        running(redis_program()) as first_id,
        running(redis_program()) as master,
        running(redis_program(), "--replicaof", f"127.0.0.1 {master.port}"),
    ):
        async with connected(first_id.url) as redis, connected(master.url) as careful:
            await eventually(
                lambda: not (redis.unavailable_reason() or careful.unavailable_reason())
            )
            options: dict[str, Any] = {"clock": clock, "replicas": 1, "publishes": False}
            store_of_former = RedisLoginStore(redis=redis, replica_connection=careful, **options)
            store_of_master = RedisLoginStore(redis=careful, replica_connection=careful, **options)
            before = a_login(clock)
            after = replace(before, version=1)
            await store_of_master.add(before)
            await eventually(lambda: is_secure(store_of_master, before))

            await store_of_former.add(after)
            with pytest.raises(Unavailable):
                await store_of_former.secure(after)
            await store_of_master.swap(before, replace(before, version=2))
            await store_of_former.secure(after)


async def is_secure(logins: LoginStore, login: Login) -> bool:
    try:
        await logins.secure(login)
    except Unavailable:
        return False
    return True


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://",
        "redis+cluster:///",
        "redis://h:port",
        "redis://h?db=x",
        "redis://h?protocol=2",
        "redis://h?ssl_ca_cert=misspelt",
        "redis+sentinel://h/name?misspelt=x",
        "redis+cluster://h?misspelt=x",
    ],
)
def test_invalid_redis_url_is_refused(url: str) -> None:
    with pytest.raises(
        ValueError, match=r"use|RESP3|Invalid|invalid|could not be cast|misspelt|ssl_ca"
    ):
        open_redis(url, "test")


def test_private_attributes_of_redis_py_exist() -> None:
    connection = Connection()
    assert connection._writer is None
    connection._close()
