"""`scan-login serve`: options, help and the ready line."""

from __future__ import annotations

import json
import re
import resource
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import pytest

from broker.cli.main import SUBCOMMANDS
from tests.support.commands import call, command_names, run, starting
from tests.support.commands import serving as serve
from tests.support.environment import ROOT, free_port
from tests.support.servers.redis import RedisServer, redis_program


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis server that is not started."""
    server = RedisServer(redis_program())
    yield server
    server.close()


def ready_url(line: str) -> str:
    found = re.search(r" ready on (\S+) ", line)
    assert found is not None, line
    return found[1]


def test_ready_line_waits_for_the_state(tmp_path: Path, redis: RedisServer) -> None:
    with starting(tmp_path, "--port", "0", SCAN_LOGIN_STATE_URL=redis.url) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        log = iter(process.stderr.readline, "")
        reason = next(line for line in log if "not ready" in line)
        redis.start()
        url = ready_url(process.stdout.readline())

        assert "state unavailable" in reason
        with urllib.request.urlopen(f"{url}/health/ready", timeout=90) as response:
            assert response.status == 200


def test_redis_outage_is_logged_once_per_connection(tmp_path: Path, redis: RedisServer) -> None:
    with starting(tmp_path, "--port", "0", SCAN_LOGIN_STATE_URL=redis.url) as process:
        assert process.stderr is not None
        log = iter(process.stderr.readline, "")
        events = [json.loads(line) for line in takewhile(lambda line: "not ready" not in line, log)]

    outages = [event for event in events if event["event"] == "redis unavailable"]
    assert sorted(event["connection"] for event in outages) == ["bus", "state"]


def test_sigterm_ends_broker_before_ready(tmp_path: Path, redis: RedisServer) -> None:
    with starting(tmp_path, "--port", "0", SCAN_LOGIN_STATE_URL=redis.url) as process:
        assert process.stderr is not None
        log = iter(process.stderr.readline, "")
        next(line for line in log if "not ready" in line)
        process.send_signal(signal.SIGTERM)

        output, _ = process.communicate(timeout=90)

        assert (process.returncode, output) == (0, "")


def test_serve_options_override_environment(tmp_path: Path) -> None:
    port = free_port()
    variables = {"SCAN_LOGIN_PORT": "1", "SCAN_LOGIN_HOST": "192.0.2.1"}
    with serve(tmp_path, "--host", "127.0.0.1", "--port", str(port), **variables) as (_, line):
        assert ready_url(line) == f"http://127.0.0.1:{port}"
        assert f"(public http://127.0.0.1:{port}," in line


def test_workers_share_the_port_of_the_option(tmp_path: Path, redis: RedisServer) -> None:
    redis.start()
    variables = {"SCAN_LOGIN_STATE_URL": redis.url}
    with serve(tmp_path, "--port", "0", "--workers", "2", **variables) as (process, line):
        assert listeners_on(int(ready_url(line).rpartition(":")[2])) == 2
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=90)
        assert process.returncode == 0


def listeners_on(port: int) -> int:
    """Return the number of IPv4 sockets that listen on `port`, see proc_pid_net(5)."""
    sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(command_[1].endswith(f":{port:04X}") and command_[3] == "0A" for command_ in sockets)


LINKS = {"SCAN_LOGIN_PORT": "tcp://10.0.0.1:8000", "SCAN_LOGIN_SERVICE_HOST": "10.0.0.1"}
"""Variables that Kubernetes sets for a Service `scan-login`."""


@pytest.mark.parametrize(
    ("variables", "warning"),
    [
        ({"SCAN_LOGIN_PUBLC_URL": "https://login.example"}, "did you mean SCAN_LOGIN_PUBLIC_URL?"),
        (LINKS, "SCAN_LOGIN_PORT: ignored"),
    ],
    ids=["misspelt", "service link"],
)
def test_serve_with_invalid_settings_prints_warnings(
    tmp_path: Path, variables: dict[str, str], warning: str
) -> None:
    refused = run(tmp_path, "serve", SCAN_LOGIN_HOST="0.0.0.0", **variables)

    assert refused.returncode == 1
    warned, mistake = refused.stderr.splitlines()
    assert warned.startswith("warning: ")
    assert warning in warned
    assert mistake.startswith("SCAN_LOGIN_PUBLIC_URL: missing")


@pytest.mark.parametrize("port", ["x", "-1", "65536"])
def test_serve_refuses_an_invalid_port(tmp_path: Path, port: str) -> None:
    refused = call(tmp_path, "serve", "--port", port)

    assert refused.returncode == 2
    assert "--port" in refused.stderr


GROUPS = [(), *((name,) for name in SUBCOMMANDS)]


@pytest.mark.parametrize("words", sorted({*GROUPS, *command_names()}), ids=" ".join)
def test_every_command_prints_help(tmp_path: Path, words: tuple[str, ...]) -> None:
    short, long = call(tmp_path, *words, "-h"), call(tmp_path, *words, "--help")

    assert (short.returncode, long.returncode) == (0, 0)
    assert "Usage: " in short.stdout
    assert short.stdout == long.stdout


@pytest.mark.parametrize("module", ["web_demo", "mp_stub", "broker"])
def test_every_program_prints_help(tmp_path: Path, module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "-h"],
        capture_output=True,
        text=True,
        timeout=90,
        cwd=ROOT,
    )

    assert done.returncode == 0
    assert "usage: " in done.stdout.lower()


def test_process_runs_without_uvloop() -> None:
    """uvloop is not installed in this process."""
    program = (
        "import sys, asyncio; sys.modules['uvloop'] = None\n"
        "from broker.infrastructure.runtime import process\n"
        "async def main(): print(type(asyncio.get_running_loop()).__module__)\n"
        "process.run(main())"
    )

    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=90
    )

    assert result.stdout.startswith("asyncio."), result.stderr


def test_broker_logs_its_limit_of_open_files(tmp_path: Path) -> None:
    with serve(tmp_path, SCAN_LOGIN_PORT=str(free_port())) as (_, output):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        assert f"open files {hard})" in output
