"""Several processes on one port are started, restarted and ended by a supervisor."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest
import structlog

from broker import __version__
from broker.errors import InvalidSettings
from broker.infrastructure.runtime.listening import ListenAddress, PortInUse, reserve_port
from broker.infrastructure.runtime.supervisor import Supervisor, WorkerFailure
from broker.settings import load_settings
from tests.support.clients import PhoneClient, PythonBrowser
from tests.support.commands import COMMAND
from tests.support.environment import free_port
from tests.support.servers.redis import Engines
from tests.support.waiting import eventually

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
"""


class RunningWorkers(NamedTuple):
    """A supervisor and the line that it printed."""

    supervisor: subprocess.Popen[str]
    line: str

    @property
    def url(self) -> str:
        return self.line.split(" ready on ")[1].split()[0]

    @property
    def workers(self) -> set[int]:
        pid = self.supervisor.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return {int(child) for child in children.split()}


StartWorkers = Callable[..., AbstractContextManager[RunningWorkers]]


@contextmanager
def running_workers(folder: Path, state_url: str, **variables: str) -> Iterator[RunningWorkers]:
    supervisor = subprocess.Popen(
        [*COMMAND, "serve", "--workers", "2"],
        cwd=folder,
        env={
            **os.environ,
            "SCAN_LOGIN_STATE_URL": state_url,
            "SCAN_LOGIN_PORT": "0",
            "SCAN_LOGIN_ADMIN_PORT": "0",
            "SCAN_LOGIN_LOG_LEVEL": "warning",
            **variables,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert supervisor.stdout is not None
        yield RunningWorkers(supervisor, supervisor.stdout.readline())
    finally:
        supervisor.kill()  # the workers end then
        supervisor.communicate()


@pytest.fixture
def start_workers(tmp_path: Path, engines: Engines) -> StartWorkers:
    """Starts a supervisor and two workers with an empty state. Keyword arguments are settings."""
    engines.empty("valkey")  # it lists killed workers of other tests, which have other keys
    return partial(running_workers, tmp_path, engines.url("valkey"))


@pytest.fixture(scope="module")
def shared_workers(
    tmp_path_factory: pytest.TempPathFactory, engines: Engines
) -> Iterator[RunningWorkers]:
    """A supervisor shared by several tests, because it starts slowly. The last test ends it."""
    engines.empty("redis")
    with running_workers(
        tmp_path_factory.mktemp("standing"),
        engines.url("redis"),
        SCAN_LOGIN_INSTANCE="shop",
        SCAN_LOGIN_ADMIN_PORT=str(adjacent_ports()),
        SCAN_LOGIN_DRAIN="0",
    ) as start_workers:
        yield start_workers


def status(url: str) -> int:
    """Return the status, or 0 if there is no answer."""
    try:
        with urllib.request.urlopen(url, timeout=90) as response:
            return int(response.status)
    except OSError as error:
        return int(getattr(error, "code", 0))


def environment(pid: int) -> dict[str, str]:
    pairs = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if pair)


def begun_logins(admin: int) -> float:
    """Return the number of logins begun at the worker with this admin port."""
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics") as response:
        counts = re.findall(r'logins_total{.*state="pending"} (\S+)', response.read().decode())
    return sum(map(float, counts))


def adjacent_ports() -> int:
    while True:
        port = free_port()
        with socket.socket() as neighbour:
            if neighbour.connect_ex(("127.0.0.1", port + 1)) != 0:
                return port


async def test_workers_share_port_and_count_separately(shared_workers: RunningWorkers) -> None:
    line = rf"scan-login {re.escape(__version__)} ready on http://127\.0\.0\.1:\d+ "
    assert re.match(line, shared_workers.line)
    settings = [environment(pid) for pid in shared_workers.workers]
    assert {group["SCAN_LOGIN_INSTANCE"] for group in settings} == {"shop-0", "shop-1"}
    first, second = sorted(int(group["SCAN_LOGIN_ADMIN_PORT"]) for group in settings)
    assert second == first + 1

    for _ in range(30):
        async with (
            aiohttp.ClientSession(shared_workers.url) as http,
            http.post("/oauth/device_authorization", data={"client_id": "default"}) as response,
        ):
            assert response.status == 200

    assert begun_logins(first) + begun_logins(second) == 30
    assert min(begun_logins(first), begun_logins(second)) > 0


async def test_login_works_across_workers(shared_workers: RunningWorkers) -> None:
    for _ in range(4):
        browser = PythonBrowser(["websocket"])
        await browser.connect(shared_workers.url)
        login = await browser.emit("begin", {})
        async with PhoneClient(shared_workers.url) as phone:
            await phone.post("scan", {"scene": login["scene"]})
            assert (await browser.push())[0] == "login-scanned"
        async with PhoneClient(shared_workers.url) as phone:
            await phone.post("confirm", {"login_id": login["login_id"]})
            assert (await browser.push())[0] == "login-confirmed"
        await browser.close()


async def test_dead_worker_is_restarted(shared_workers: RunningWorkers) -> None:
    before = shared_workers.workers
    victim = min(before)

    os.kill(victim, signal.SIGKILL)

    await eventually(lambda: len(shared_workers.workers - before) == 1)
    assert before - shared_workers.workers == {victim}
    for _ in range(10):
        assert status(f"{shared_workers.url}/health/live") == 200
    shared_workers.supervisor.terminate()
    output, errors = shared_workers.supervisor.communicate(timeout=60)
    assert (shared_workers.supervisor.returncode, output) == (0, "")
    assert "worker died" in errors
    assert "Traceback" not in errors


async def test_sigterm_to_process_group_drains_all_workers(start_workers: StartWorkers) -> None:
    """systemd signals every process of a service, and the supervisor signals its workers again."""
    with start_workers(SCAN_LOGIN_DRAIN="5", SCAN_LOGIN_LOG_LEVEL="warning") as group:
        workers = group.workers
        os.killpg(group.supervisor.pid, signal.SIGTERM)
        await eventually(lambda: status(f"{group.url}/health/ready") == 503)
        for _ in range(6):
            assert status(f"{group.url}/health/ready") == 503

        output, errors = await asyncio.to_thread(group.supervisor.communicate, timeout=60)

        assert (group.supervisor.returncode, output, errors) == (0, "", "")
        assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


async def test_second_sigterm_ends_drain(start_workers: StartWorkers) -> None:
    with start_workers(SCAN_LOGIN_DRAIN="60") as group:
        group.supervisor.terminate()
        await eventually(lambda: status(f"{group.url}/health/ready") == 503)
        assert group.supervisor.poll() is None

        group.supervisor.terminate()

        group.supervisor.communicate(timeout=60)
        assert group.supervisor.returncode == 0


async def test_workers_end_if_supervisor_is_killed(start_workers: StartWorkers) -> None:
    port = free_port()
    with start_workers(SCAN_LOGIN_PORT=str(port)) as group:
        assert status(f"{group.url}/health/live") == 200

        group.supervisor.kill()

        await eventually(lambda: status(f"{group.url}/health/live") == 0)
        await eventually(lambda: is_available(port))


def place_at(port: int, host: str = "127.0.0.1") -> ListenAddress:
    return ListenAddress("broker", host, port, "PORT")


def is_available(port: int) -> bool:
    with suppress(PortInUse), reserve_port(place_at(port)) as reserved_port:
        return reserved_port == port
    return False


def test_start_failure_of_workers_is_reported_once(
    start_workers: StartWorkers, tmp_path: Path
) -> None:
    keys = tmp_path / "scan-login-keys.json"
    keys.write_text("{")
    keys.chmod(0o600)
    with start_workers() as group:
        output, errors = group.supervisor.communicate(timeout=60)

    assert (group.supervisor.returncode, output) == (1, "")
    assert errors.count("scan-login-keys.json is damaged") == 1
    assert "Traceback" not in errors


@pytest.mark.parametrize("bus_url", [None, "memory://"])
def test_workers_without_shared_state_are_refused(bus_url: str | None) -> None:
    state_url = "redis://127.0.0.1" if bus_url else "memory://"

    with pytest.raises(InvalidSettings, match="WORKERS: 2 processes cannot share memory"):
        load_settings(workers=2, state_url=state_url, bus_url=bus_url)


@contextmanager
def other_listener(*, sharing: bool) -> Iterator[int]:
    """Listen as another program, and yield the port."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, sharing)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_taken_port_is_reported_with_remedy(start_workers: StartWorkers) -> None:
    with other_listener(sharing=True) as port, start_workers(SCAN_LOGIN_PORT=str(port)) as group:
        _, errors = group.supervisor.communicate(timeout=60)

    assert group.supervisor.returncode == 1
    assert f"port {port} on 127.0.0.1 is in use" in errors
    assert "SCAN_LOGIN_PORT=" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("sharing", [False, True])
def test_port_of_other_program_is_taken(sharing: bool) -> None:
    with (
        other_listener(sharing=sharing) as port,
        pytest.raises(PortInUse),
        reserve_port(place_at(port)),
    ):
        pass


def test_port_is_reserved_by_one_supervisor() -> None:
    with (
        reserve_port(place_at(0)) as port,
        pytest.raises(PortInUse),
        reserve_port(place_at(port)),
    ):
        pass


def test_reserved_port_refuses_connections() -> None:
    with (
        reserve_port(place_at(0)) as port,
        pytest.raises(ConnectionRefusedError),
    ):
        socket.create_connection(("127.0.0.1", port))


def test_port_with_closed_connections_is_available() -> None:
    """Otherwise a restart would fail for a minute."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            listener.accept()[0].close()  # the side that closes first keeps the port in TIME_WAIT
            assert client.recv(1) == b""

    with reserve_port(place_at(port)) as reserved_port:
        assert reserved_port == port


def test_unknown_host_is_named() -> None:
    with (
        pytest.raises(PortInUse, match=r"cannot listen on no\.such\.host\.invalid"),
        reserve_port(place_at(0, "no.such.host.invalid")),
    ):
        pass


async def test_restart_delay_of_worker_grows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    delays: list[float] = []

    class RecordingAsyncio:
        """asyncio whose `sleep` records the delay and returns at once."""

        def __getattr__(self, name: str) -> object:
            return getattr(asyncio, name)

        async def sleep(self, seconds: float) -> None:
            delays.append(seconds)

    monkeypatch.setattr("broker.infrastructure.runtime.supervisor.asyncio", RecordingAsyncio())
    supervisor = Supervisor([sys.executable, "-c", "print(1)"], [{}], stop_timeout=60)
    with structlog.testing.capture_logs():
        running = asyncio.create_task(supervisor.run(lambda line: None))
        await eventually(lambda: len(delays) >= 7)

    assert delays[:7] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0]
    os.kill(os.getpid(), signal.SIGTERM)
    await running


async def test_worker_that_does_not_end_is_killed() -> None:
    supervisor = Supervisor([sys.executable, "-c", STUBBORN], [{}, {}], stop_timeout=0.2)
    running = asyncio.create_task(supervisor.run(lambda line: os.kill(os.getpid(), signal.SIGTERM)))

    with pytest.raises(WorkerFailure, match="2 of the workers"):
        await running
