"""Several processes on one port: started together, kept alive, ended together."""

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


class Crew(NamedTuple):
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


StartCrew = Callable[..., AbstractContextManager[Crew]]


@contextmanager
def started(folder: Path, state_url: str, **variables: str) -> Iterator[Crew]:
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
        yield Crew(supervisor, supervisor.stdout.readline())
    finally:
        supervisor.kill()  # which its workers notice
        supervisor.communicate()


@pytest.fixture
def crew(tmp_path: Path, engines: Engines) -> StartCrew:
    """Starts two workers and their supervisor, which share an empty state; settings by keyword."""
    engines.empty("valkey")  # killed workers of another test stay listed there, with other keys
    return partial(started, tmp_path, engines.url("valkey"))


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory, engines: Engines) -> Iterator[Crew]:
    """One crew for several tests: its start is what takes long.  The last of them ends it."""
    with started(
        tmp_path_factory.mktemp("standing"),
        engines.url("redis"),
        SCAN_LOGIN_INSTANCE="shop",
        SCAN_LOGIN_ADMIN_PORT=str(adjacent_ports()),
        SCAN_LOGIN_DRAIN="0",
    ) as crew:
        yield crew


def status(url: str) -> int:
    """0 where nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            return int(response.status)
    except OSError as error:
        return int(getattr(error, "code", 0))


def environment(pid: int) -> dict[str, str]:
    pairs = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if pair)


def begun(admin: int) -> float:
    """Logins that the worker with this admin port has begun."""
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics") as response:
        counts = re.findall(r'logins_total{.*state="pending"} (\S+)', response.read().decode())
    return sum(map(float, counts))


def adjacent_ports() -> int:
    while True:
        port = free_port()
        with socket.socket() as neighbour:
            if neighbour.connect_ex(("127.0.0.1", port + 1)) != 0:
                return port


async def test_workers_share_a_port_and_each_counts_for_itself(standing: Crew) -> None:
    line = rf"scan-login {re.escape(__version__)} ready on http://127\.0\.0\.1:\d+ "
    assert re.match(line, standing.line)
    settings = [environment(pid) for pid in standing.workers]
    assert {one["SCAN_LOGIN_INSTANCE"] for one in settings} == {"shop-0", "shop-1"}
    first, second = sorted(int(one["SCAN_LOGIN_ADMIN_PORT"]) for one in settings)
    assert second == first + 1

    for _ in range(30):
        async with (
            aiohttp.ClientSession(standing.url) as http,
            http.post("/oauth/device_authorization", data={"client_id": "default"}) as response,
        ):
            assert response.status == 200

    assert begun(first) + begun(second) == 30
    assert min(begun(first), begun(second)) > 0


async def test_browser_and_phone_may_come_to_different_workers(standing: Crew) -> None:
    for _ in range(4):
        browser = PythonBrowser(["websocket"])
        await browser.connect(standing.url)
        login = await browser.emit("begin", {})
        async with PhoneClient(standing.url) as phone:
            await phone.post("scan", {"scene": login["scene"]})
            assert (await browser.push())[0] == "login-scanned"
        async with PhoneClient(standing.url) as phone:
            await phone.post("confirm", {"login_id": login["login_id"]})
            assert (await browser.push())[0] == "login-confirmed"
        await browser.close()


async def test_a_worker_that_dies_is_started_again(standing: Crew) -> None:
    before = standing.workers
    victim = min(before)

    os.kill(victim, signal.SIGKILL)

    await eventually(lambda: len(standing.workers - before) == 1)
    assert before - standing.workers == {victim}
    for _ in range(10):
        assert status(f"{standing.url}/health/live") == 200
    standing.supervisor.terminate()
    output, errors = standing.supervisor.communicate(timeout=60)
    assert (standing.supervisor.returncode, output) == (0, "")
    assert "worker died" in errors
    assert "Traceback" not in errors


async def test_sigterm_drains_all_of_them_also_when_all_are_told(crew: StartCrew) -> None:
    """systemd tells every process of a service, and the supervisor passes it on once more."""
    with crew(SCAN_LOGIN_DRAIN="5", SCAN_LOGIN_LOG_LEVEL="warning") as one:
        workers = one.workers
        os.killpg(one.supervisor.pid, signal.SIGTERM)
        await eventually(lambda: status(f"{one.url}/health/ready") == 503)
        for _ in range(6):
            assert status(f"{one.url}/health/ready") == 503

        output, errors = await asyncio.to_thread(one.supervisor.communicate, timeout=60)

        assert (one.supervisor.returncode, output, errors) == (0, "", "")
        assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


async def test_a_second_sigterm_does_not_wait(crew: StartCrew) -> None:
    with crew(SCAN_LOGIN_DRAIN="60") as one:
        one.supervisor.terminate()
        await eventually(lambda: status(f"{one.url}/health/ready") == 503)
        assert one.supervisor.poll() is None

        one.supervisor.terminate()

        one.supervisor.communicate(timeout=60)
        assert one.supervisor.returncode == 0


async def test_workers_end_with_a_supervisor_that_is_killed(crew: StartCrew) -> None:
    port = free_port()
    with crew(SCAN_LOGIN_PORT=str(port)) as one:
        assert status(f"{one.url}/health/live") == 200

        one.supervisor.kill()

        await eventually(lambda: status(f"{one.url}/health/live") == 0)
        await eventually(lambda: can_be_had(port))


def at(port: int, host: str = "127.0.0.1") -> ListenAddress:
    return ListenAddress("broker", host, port, "PORT")


def can_be_had(port: int) -> bool:
    with suppress(PortInUse), reserve_port(at(port)) as again:
        return again == port
    return False


def test_what_keeps_them_from_starting_is_said_once(crew: StartCrew, tmp_path: Path) -> None:
    keys = tmp_path / "scan-login-keys.json"
    keys.write_text("{")
    keys.chmod(0o600)
    with crew() as one:
        output, errors = one.supervisor.communicate(timeout=60)

    assert (one.supervisor.returncode, output) == (1, "")
    assert errors.count("scan-login-keys.json is damaged") == 1
    assert "Traceback" not in errors


@pytest.mark.parametrize("bus_url", [None, "memory://"])
def test_workers_that_would_share_nothing_are_refused(bus_url: str | None) -> None:
    state_url = "redis://127.0.0.1" if bus_url else "memory://"

    with pytest.raises(InvalidSettings, match="SCAN_LOGIN_WORKERS: 2 processes share nothing"):
        load_settings(workers=2, state_url=state_url, bus_url=bus_url)


@contextmanager
def somebody(*, sharing: bool) -> Iterator[int]:
    """Somebody else listens: their port."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, sharing)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_taken_port_is_named_with_what_to_do(crew: StartCrew) -> None:
    with somebody(sharing=True) as port, crew(SCAN_LOGIN_PORT=str(port)) as one:
        _, errors = one.supervisor.communicate(timeout=60)

    assert one.supervisor.returncode == 1
    assert f"port {port} on 127.0.0.1 is in use" in errors
    assert "SCAN_LOGIN_PORT=" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("sharing", [False, True])
def test_a_port_is_taken_even_when_whoever_has_it_would_share_it(sharing: bool) -> None:
    with (
        somebody(sharing=sharing) as port,
        pytest.raises(PortInUse),
        reserve_port(at(port)),
    ):
        pass


def test_of_two_supervisors_at_once_one_has_the_port() -> None:
    with (
        reserve_port(at(0)) as port,
        pytest.raises(PortInUse),
        reserve_port(at(port)),
    ):
        pass


def test_no_connection_waits_at_a_port_that_is_only_held() -> None:
    with (
        reserve_port(at(0)) as port,
        pytest.raises(ConnectionRefusedError),
    ):
        socket.create_connection(("127.0.0.1", port))


def test_a_port_whose_connections_ended_lately_can_be_had() -> None:
    """Or nothing could be started again for a minute."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            listener.accept()[0].close()  # whoever closes first keeps the port a while
            assert client.recv(1) == b""

    with reserve_port(at(port)) as again:
        assert again == port


def test_an_address_that_is_none_is_named() -> None:
    with (
        pytest.raises(PortInUse, match=r"cannot listen on no\.such\.host\.invalid"),
        reserve_port(at(0, "no.such.host.invalid")),
    ):
        pass


async def test_one_that_dies_again_and_again_waits_longer_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []

    class Noted:
        """asyncio, with the pauses noted and not made."""

        def __getattr__(self, name: str) -> object:
            return getattr(asyncio, name)

        async def sleep(self, seconds: float) -> None:
            pauses.append(seconds)

    monkeypatch.setattr("broker.infrastructure.runtime.supervisor.asyncio", Noted())
    supervisor = Supervisor([sys.executable, "-c", "print(1)"], [{}], stop_timeout=60)
    with structlog.testing.capture_logs():
        running = asyncio.create_task(supervisor.run(lambda line: None))
        await eventually(lambda: len(pauses) >= 7)

    assert pauses[:7] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0]
    os.kill(os.getpid(), signal.SIGTERM)
    await running


async def test_one_that_does_not_end_is_killed() -> None:
    supervisor = Supervisor([sys.executable, "-c", STUBBORN], [{}, {}], stop_timeout=0.2)
    running = asyncio.create_task(supervisor.run(lambda line: os.kill(os.getpid(), signal.SIGTERM)))

    with pytest.raises(WorkerFailure, match="2 of the workers"):
        await running
