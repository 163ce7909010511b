"""What stands between us and Redis: soon a clear refusal, never a hang, and back by itself."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
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
from broker.infrastructure.redis.server_clock import ServerClock
from broker.login.model import Login
from broker.login.ports import LoginStore, SwapResult
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
async def linked(url: str) -> AsyncIterator[Redis]:
    link = open_redis(url, "test")
    await link.open()
    try:
        yield link
    finally:
        await link.close()


@pytest.fixture
async def link(server: RedisServer) -> AsyncIterator[Redis]:
    async with linked(server.url) as link:
        await eventually(lambda: link.unavailable_reason() is None)
        yield link


async def works(link: Redis) -> bool:
    try:
        await link.call("GET", "x")
    except Unavailable:
        return False
    return True


async def test_replies_come_in_the_order_of_their_commands(link: Redis) -> None:
    replies = await asyncio.gather(*(link.call("INCR", "count") for _ in range(5_000)))

    assert replies == list(range(1, 5_001))


class Noted:
    """A transport of which every write is kept."""

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


async def test_commands_of_one_turn_of_the_loop_leave_in_one_write(wire: RedisConnection) -> None:
    noted = wire._transport = Noted(wire._transport)

    replies = [wire.send("ECHO", word) for word in ("one", "two", "three")]

    assert await asyncio.gather(*replies) == [b"one", b"two", b"three"]
    assert [data.count(b"ECHO") for data in noted.written] == [3]
    assert await wire.send("ECHO", "four") == b"four"
    assert len(noted.written) == 2


async def test_what_a_lost_wire_has_not_sent_is_refused(wire: RedisConnection) -> None:
    noted = wire._transport = Noted(wire._transport)

    reply = wire.send("ECHO", "one")
    wire.abort()

    with pytest.raises(ConnectionError):
        await reply
    await asyncio.sleep(0)
    assert not noted.written


async def test_whoever_stops_waiting_does_not_shift_the_others_replies(link: Redis) -> None:
    await link.call("SET", "name", "alice")
    given_up = asyncio.create_task(link.call("GET", "other"))
    await asyncio.sleep(0)
    given_up.cancel()

    assert await link.call("GET", "name") == b"alice"


async def test_a_server_that_stands_still_is_noticed_soon_and_refused_at_once(
    server: RedisServer, link: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A half-open link looks the same: it stays open and says nothing."""
    server.pause()
    with pytest.raises(Unavailable):
        await link.call("GET", "x")

    monkeypatch.setattr("broker.infrastructure.redis.reconnector.CONNECTION_WAIT_TIMEOUT", 0.0)
    with replaced_clock(runs=False):  # so whatever waits for a time would wait for ever
        for _ in range(100):
            with pytest.raises(Unavailable):
                await link.call("GET", "x")
    assert link.unavailable_reason()

    server.go_on()
    await eventually(lambda: works(link))
    assert link.unavailable_reason() is None


async def test_a_server_that_is_restarted_is_found_again(server: RedisServer, link: Redis) -> None:
    server.kill()
    with pytest.raises(Unavailable):
        await link.call("GET", "x")

    server.start()

    await eventually(lambda: works(link))


async def test_a_short_absence_is_waited_out(
    server: RedisServer, link: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.infrastructure.redis.reconnector.CONNECTION_WAIT_TIMEOUT", 60.0)
    server.kill()
    await eventually(lambda: link.unavailable_reason())
    server.start()

    assert await works(link)


async def test_a_server_that_comes_late_is_found() -> None:
    server = RedisServer(redis_program())
    async with linked(server.url) as link:
        assert link.unavailable_reason()
        with pytest.raises(Unavailable):
            await link.call("GET", "x")
        server.start()
        await eventually(lambda: works(link))
    server.close()


async def test_a_server_that_takes_no_writes_is_not_taken_for_the_master(
    server: RedisServer, link: Redis
) -> None:
    """As after a failover, while nobody has told us."""
    former = await link.call("CLIENT", "ID")
    with server.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(Unavailable):
            await link.call("SET", "x", "y")
        await eventually(lambda: works(link))
        assert await link.call("CLIENT", "ID") != former
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
def test_a_refusal_is_known_by_its_word_also_out_of_a_script_of_redis_6(
    reply: str, word: str
) -> None:
    assert ErrorReply(reply).code == word


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[RedisServer]]:
    with cluster(3) as nodes:
        yield nodes


async def test_a_cluster_that_was_down_is_found_again(nodes: list[RedisServer]) -> None:
    for node in nodes:
        node.kill()
    with capture_logs() as lines:
        await comes_back(nodes)

    said = [line["event"] for line in lines if " commands" not in line["event"]]
    assert said[0] == "redis unavailable"
    assert said[-1] == "redis recovered"  # it may have to find it twice while it elects


async def comes_back(nodes: list[RedisServer]) -> None:
    async with linked(cluster_url(nodes)) as link:
        for _ in range(5):
            with pytest.raises(Unavailable):
                await link.call("GET", "x")
        assert link.unavailable_reason()

        for node in nodes:
            node.start()

        await eventually(lambda: works(link))
        await eventually(lambda: link.unavailable_reason() is None)


async def test_a_cluster_that_refuses_for_now_is_an_outage(nodes: list[RedisServer]) -> None:
    """redis-py raises these with the word cut off by which they are known."""
    async with linked(cluster_url(nodes)) as link:
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


async def test_cluster_tells_the_memory_policy_of_each_node(nodes: list[RedisServer]) -> None:
    async with linked(cluster_url(nodes)) as link:
        await eventually(lambda: works(link))
        assert [one.evicts for one in await link.memory()] == [False] * 3

        for name, value in {"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}.items():
            nodes[0].client().config_set(name, value)
        assert sorted(one.evicts for one in await link.memory()) == [False, False, True]

        nodes[0].client().config_set("maxmemory", 0)


async def test_a_script_is_sent_whole_where_the_server_has_forgotten_it(
    server: RedisServer, link: Redis
) -> None:
    greet = script("return ARGV[1]")
    for _ in range(2):
        assert await link.run(greet, [], "hello") == b"hello"
        with server.client() as client:
            client.script_flush()


async def test_a_mistake_of_ours_is_no_outage(link: Redis) -> None:
    await link.call("SET", "text", "x")

    with pytest.raises(ErrorReply, match="ERR value is not an integer"):
        await link.call("INCR", "text")


async def test_a_wrong_password_is_said_and_a_right_one_works() -> None:
    with running(redis_program(), "--requirepass", "sesame") as server:
        async with linked(server.url) as link:
            await eventually(lambda: "authenticat" in str(link.unavailable_reason()))
        url = f"redis://:sesame@127.0.0.1:{server.port}/3"
        async with linked(url) as link:
            await eventually(lambda: works(link))
        bus = open_bus(url)
        await opened_bus(bus)
        async with bus.listen("one") as notices:
            await bus.publish("one", Notice("login-scanned", "x"))
            assert await anext(notices) == Notice("login-scanned", "x")
        await bus.close()


async def test_a_user_who_may_not_ask_for_the_time_is_told_so_and_does_not_come_like_rain(
    server: RedisServer, still_clock: LoopClock
) -> None:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "bob", "on", ">pw", "~*", "+@all", "-time")
        before = client.info("stats")["total_connections_received"]
        url = f"redis://bob:pw@127.0.0.1:{server.port}"
        async with linked(server.url) as other, linked(url) as link:
            outage = link._reconnector._outage
            for attempts in range(1, 9):
                await still_clock.until(lambda attempts=attempts: outage.failures >= attempts)
                for _ in range(50):  # an attempt without a pause would come meanwhile
                    await other.call("PING")
                await still_clock.move(1.25 * max(RECONNECT_DELAYS))

            assert client.info("stats")["total_connections_received"] - before <= 1 + attempts + 1
            assert "NOPERM" in str(link.unavailable_reason())


async def test_documented_redis_permissions_are_enough(server: RedisServer, clock: Clock) -> None:
    page = Path("docs/alarms.md").read_text()
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
    with pytest.raises(Unavailable, match="not on enough replicas"):
        await store.logins.secure(login)
    async with bus.listen("one") as notices:
        await bus.publish("one", Notice("login-scanned", "x"))
        assert await anext(notices) == Notice("login-scanned", "x")
    await use_the_rest(store, clock)
    assert store.refusal() is None
    assert not await store.evicts()

    await bus.close()
    await store.close()


async def use_the_rest(store: StateBackend, clock: Clock) -> None:
    """Sessions, pools, leader leases and profiles, with every command of theirs."""
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


async def test_tls(tmp_path: Path) -> None:
    certificate(tmp_path)
    port = free_port()
    files = ("--tls-cert-file", f"{tmp_path}/cert.pem", "--tls-key-file", f"{tmp_path}/key.pem")
    options = ("--tls-port", str(port), "--tls-auth-clients", "no", *files)
    with running(redis_program(), *options):
        async with linked(f"rediss://localhost:{port}?ssl_ca_certs={tmp_path}/cert.pem") as link:
            await eventually(lambda: works(link))
        async with linked(f"rediss://localhost:{port}") as link:
            await eventually(lambda: "certificate" in str(link.unavailable_reason()).lower())


async def test_the_bus_notices_that_it_is_deaf(server: RedisServer) -> None:
    bus = open_bus(server.url)
    await opened_bus(bus)
    async with bus.listen("one") as notices:
        server.pause()
        with pytest.raises(Unavailable):
            await anext(notices)
        with pytest.raises(Unavailable):
            async with bus.listen("one"):
                pass
        server.go_on()
    await eventually(lambda: heard(bus))
    await bus.close()


async def heard(bus: object) -> bool:
    try:
        async with bus.listen("one") as notices:  # type: ignore[attr-defined]
            await bus.publish("one", Notice("login-scanned", "x"))  # type: ignore[attr-defined]
            return bool(await anext(notices))
    except Unavailable:
        return False


async def listen_for_ever(link: Redis) -> None:
    async with link.subscribe("channel") as feed:
        await feed.get()


async def test_whoever_stops_subscribing_has_stopped(link: Redis) -> None:
    """Also while redis-py connects, which swallows it: a broker would never end."""
    for turns in range(30):
        listening = asyncio.create_task(listen_for_ever(link))
        for _ in range(turns):
            await asyncio.sleep(0)

        listening.cancel()

        ended, _ = await asyncio.wait([listening], timeout=30)
        assert ended, f"cancelled after {turns} turns of the loop"


@pytest.mark.parametrize("then", [ConnectionError, None], ids=["raises", "goes on"])
async def test_a_cluster_is_left_also_while_redis_py_swallows_it(
    nodes: list[RedisServer], monkeypatch: pytest.MonkeyPatch, then: type[Exception] | None
) -> None:
    """A broker would never end."""
    async with linked(cluster_url(nodes)) as link:
        asked = asyncio.Event()

        async def swallow(client: RedisCluster) -> None:
            asked.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if then is not None:
                    raise then from None

        monkeypatch.setattr(RedisCluster, "initialize", swallow)
        async with asyncio.timeout(30):
            await asked.wait()
        ended, _ = await asyncio.wait([asyncio.create_task(link.close())], timeout=30)
        monkeypatch.undo()

        assert ended


async def test_what_is_no_notice_is_passed_over(server: RedisServer) -> None:
    bus = open_bus(server.url)
    await opened_bus(bus)
    async with bus.listen("one") as notices:
        with server.client() as client:
            for nonsense in (b"", b"\xff", b"[]", b"{}", b"null", b'["e",1]', b"[" * 100_000):
                client.publish("scanlogin:instance:one", nonsense)
            client.publish("scanlogin:instance:one", '["e", "x"]')

        assert await anext(notices) == Notice("e", "x")
    await bus.close()


class Told(NamedTuple):
    logins: LoginStore
    bus: Bus
    notices: AsyncIterator[Notice]


@asynccontextmanager
async def telling(
    server: RedisServer, url: str, clock: Clock, *, publishes: bool
) -> AsyncIterator[Told]:
    """A state at `url`, and what the instance `one` hears meanwhile."""
    bus, store = open_bus(server.url), open_state(url, clock, publishes=publishes)
    await asyncio.gather(opened_bus(bus), opened(store))
    async with bus.listen("one") as notices:
        yield Told(store.logins, bus, notices)
    await store.close()
    await bus.close()


@pytest.mark.parametrize("publishes", [True, False])
async def test_a_change_and_its_notice_go_in_one_trip(
    server: RedisServer, clock: Clock, publishes: bool
) -> None:
    before = a_login(clock, instance="one")
    after = replace(before, version=1)
    async with telling(server, server.url, clock, publishes=publishes) as told:
        await told.logins.add(before)
        swapped = await told.logins.swap(before, after, Notice("e", before.id))
        lost = await told.logins.swap(before, after, Notice("too late", before.id))
        await told.bus.publish("one", Notice("last", ""))

        assert swapped is (SwapResult.STORED_AND_PUBLISHED if publishes else SwapResult.STORED)
        assert lost is SwapResult.CONFLICT
        if publishes:
            assert await anext(told.notices) == Notice("e", before.id)
        assert await anext(told.notices) == Notice("last", "")


async def test_a_change_stands_whose_notice_may_not_be_sent(
    server: RedisServer, clock: Clock
) -> None:
    with server.client() as client:
        client.execute_command(
            "ACL", "SETUSER", "mute", "on", ">pw", "~*", "+@all", "resetchannels"
        )
    before = a_login(clock, instance="one")
    after = replace(before, version=1)
    url = server.url.replace("redis://", "redis://mute:pw@")
    async with telling(server, url, clock, publishes=True) as told:
        await told.logins.add(before)

        swapped = await told.logins.swap(before, after, Notice("e", before.id))

        assert swapped is SwapResult.STORED
        assert await told.logins.get(before.id) == after


async def test_the_servers_time_is_everybodys(server: RedisServer, link: Redis) -> None:
    before = link.clock()
    with server.client() as client:
        seconds, microseconds = client.time()  # type: ignore[misc]

    assert before - 2 < seconds + microseconds / 1e6 < link.clock() + 2


def test_a_clock_goes_by_the_middle_of_question_and_answer(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "broker.infrastructure.redis.server_clock.time",
        SimpleNamespace(monotonic=clock, time=lambda: 0.0),
    )
    shared = ServerClock()
    asked_at = clock()
    clock.time += 2

    shared.set([b"1000", b"500000"], asked_at=asked_at)

    assert shared() == 1001.5


async def test_a_login_is_secure_when_a_replica_has_it(clock: Clock) -> None:
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


async def test_a_login_is_not_secure_where_another_master_does_not_have_it(clock: Clock) -> None:
    """A failover may come between the write, on one connection, and the wait, on the other."""
    with (
        running(redis_program()) as former,
        running(redis_program()) as master,
        running(redis_program(), "--replicaof", f"127.0.0.1 {master.port}"),
    ):
        async with linked(former.url) as redis, linked(master.url) as careful:
            for link in (redis, careful):
                await eventually(lambda link=link: link.unavailable_reason() is None)
            options: dict[str, Any] = {"clock": clock, "replicas": 1, "publishes": False}
            here = RedisLoginStore(redis=redis, replica_connection=careful, **options)
            there = RedisLoginStore(redis=careful, replica_connection=careful, **options)
            before = a_login(clock)
            after = replace(before, version=1)
            await there.add(before)
            await eventually(lambda: is_secure(there, before))

            await here.add(after)
            with pytest.raises(Unavailable):
                await here.secure(after)
            await there.swap(before, replace(before, version=2))
            await here.secure(after)


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
def test_a_url_that_names_nothing_is_refused(url: str) -> None:
    with pytest.raises(
        ValueError, match=r"use|RESP3|Invalid|invalid|could not be cast|misspelt|ssl_ca"
    ):
        open_redis(url, "test")


def test_what_is_used_of_redis_pys_insides_is_there() -> None:
    connection = Connection()
    assert connection._writer is None
    connection._close()  # type: ignore[no-untyped-call]
