"""The servers of one run, with one Redis. CPU and memory are read from /proc."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from bench.targets import Command, Target
from tests.support.servers.redis import RedisServer, redis_program, running

START_TIMEOUT = 300.0
"""Seconds. Up to eight servers start at once and share the cores, or one runs in valgrind."""

STOP_TIMEOUT = 15.0
IDLE_POLL_INTERVAL = 0.5
TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
SCRIPTS = ("eval", "evalsha")
UNCOUNTED = ("PING", "PUBLISH", "HELLO", "CLIENT", "TIME", "EVAL", "SCRIPT")
"""Pings, notices, new connections, and a script that Redis gets the first time."""

END_OF_ACT = "end-of-act"
TCP_LISTEN = "0A"
URL = re.compile(r"http://[\w.]+:\d+")


class Fleet(NamedTuple):
    """The servers of one target and their Redis. redis: a handle to Redis, if there is one."""

    target: Target
    urls: list[str]
    pids: list[int]
    redis_pid: int
    redis: RedisServer | None = None

    def rss_bytes(self) -> int:
        """The resident memory of all servers."""
        return sum(map(_rss_bytes, self.pids))

    def open_files(self) -> int:
        """The number of open files and sockets of all servers."""
        return sum(len(_open_files(pid)) for pid in self.pids)

    def scripts(self) -> int:
        """The number of scripts that Redis has run."""
        if self.redis is None:
            return 0
        with self.redis.client() as client:
            stats = client.info("commandstats")
        return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in SCRIPTS)

    async def redis_commands(self, act: Callable[[], Awaitable[object]]) -> int:
        """Run `act`, and return how many commands the servers sent to Redis meanwhile.

        Commands of a script are not counted, nor are those that keep connections.
        """
        assert self.redis is not None
        with self.redis.client() as client, client.monitor() as monitor:
            await act()
            self.redis.client().echo(END_OF_ACT)
            seen = 0
            while END_OF_ACT not in (command := monitor.next_command())["command"]:
                name = command["command"].partition(" ")[0].upper()
                seen += command["client_type"] != "lua" and name not in UNCOUNTED
            return seen

    def ports(self) -> set[int]:
        """The ports of the servers: those of `urls` and the admin ports."""
        return {port for pid in self.pids for port in _ports(pid)}


class CPUTime(NamedTuple):
    """CPU in milliseconds, user and system."""

    servers: float
    redis: float
    generator: float


class Meter:
    """Measures the CPU that is used after its creation."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._start = self._now()
        self._since = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._since

    def read(self) -> CPUTime:
        return CPUTime(*(now - start for now, start in zip(self._now(), self._start, strict=True)))

    def _now(self) -> CPUTime:
        return CPUTime(
            sum(map(_cpu_ms, self._fleet.pids)),
            _cpu_ms(self._fleet.redis_pid),
            1000 * time.process_time(),
        )


async def idle_cpu(fleet: Fleet, seconds: float = 5.0) -> float:
    """The CPU of the servers in ms per second. The caller sends no requests meanwhile."""
    meter = Meter(fleet)
    await asyncio.sleep(seconds)
    return meter.read().servers / seconds


async def wait_until_idle(fleet: Fleet, idle: float) -> None:
    """Wait until the servers use little more CPU than `idle`, which means that their work is done.

    Two readings in a row must be low, because other work on the machine may delay the servers.
    """
    quiet = 0
    while quiet < 2:
        quiet = quiet + 1 if await idle_cpu(fleet, IDLE_POLL_INTERVAL) < 1.5 * idle + 40 else 0


@asynccontextmanager
async def fleet(target: Target, instances: int) -> AsyncIterator[Fleet]:
    """Start servers and a Redis on free ports. They stop at the end of the block."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        redis = stack.enter_context(running(redis_program()))
        if support := target.support_server():
            await _url(await stack.enter_async_context(_server(support)))
        command = target.command(redis_url=redis.url, folder=folder)
        started = []
        for _ in range(instances):
            started.append(await stack.enter_async_context(_server(command)))
            if len(started) == 1:  # the first one creates shared files, such as keys
                urls = [await _url(started[0])]
        urls += await asyncio.gather(*map(_url, started[1:]))
        yield Fleet(target, urls, [server.pid for server in started], redis.pid, redis)


def raise_file_limit() -> None:
    """Raise the limit of open files to its maximum, for this process and its children."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@asynccontextmanager
async def _server(command: Command) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        *command.arguments, env={**os.environ, **command.environment}, stdin=DEVNULL, stdout=PIPE
    )
    try:
        yield process
    finally:
        await _stop(process)


async def _stop(process: Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_TIMEOUT):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def _url(server: Process) -> str:
    """The URL in the ready line of the server. Raises RuntimeError if there is none."""
    assert server.stdout is not None
    async with asyncio.timeout(START_TIMEOUT):
        line = (await server.stdout.readline()).decode()
    url = URL.search(line)
    if url is None:
        raise RuntimeError(f"a server did not start: {line!r}")
    return url[0]


def _open_files(pid: int) -> set[str]:
    files = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed in the meantime
            files.add(str(link.readlink()))
    return files


def _ports(pid: int) -> Iterator[int]:
    # Fields of proc_pid_net(5): the local address, the state, the inode.
    files = _open_files(pid)
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == TCP_LISTEN and f"socket:[{fields[9]}]" in files:
            yield int(fields[1].partition(":")[2], 16)


def _family(pid: int) -> Iterator[int]:
    """The process and its descendants."""
    yield pid
    with suppress(FileNotFoundError, ProcessLookupError):  # it has ended in the meantime
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from _family(int(child))


def _family_files(pid: int, name: str) -> Iterator[str]:
    """The text of `/proc/<pid>/<name>` for the process and its descendants."""
    yield Path(f"/proc/{pid}/{name}").read_text()
    for child in [*_family(pid)][1:]:
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended in the meantime
            yield Path(f"/proc/{child}/{name}").read_text()


def _cpu_ms(pid: int) -> float:
    return TICK_MS * sum(map(_ticks, _family_files(pid, "stat")))


def _ticks(stat: str) -> int:
    # Fields 14 and 15 of proc_pid_stat(5); the name before them may contain spaces.
    fields = stat.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _rss_bytes(pid: int) -> int:
    statms = (statm.split() for statm in _family_files(pid, "statm"))
    return sum(int(statm[1]) * PAGE_BYTES for statm in statms)
