"""The broker reports to a service manager that it is ready, as systemd's `Type=notify` expects."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from broker.infrastructure.runtime.service_manager import (
    NOTIFY_SOCKET,
    READY,
    notify_service_manager,
)
from tests.support.commands import LIMIT, serving, starting
from tests.support.servers.redis import Engines, RedisServer, redis_program


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket of a service manager."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(LIMIT)
        yield listener


def has_message(manager: socket.socket) -> bool:
    """Return whether a message has arrived."""
    manager.setblocking(False)
    try:
        return bool(manager.recv(100, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    finally:
        manager.settimeout(LIMIT)


def test_service_manager_receives_state(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NOTIFY_SOCKET, manager.getsockname())

    notify_service_manager(READY)

    assert manager.recv(100) == b"READY=1"


def test_service_manager_with_abstract_address_receives_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = f"scan-login-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{name}")
        listener.settimeout(LIMIT)
        monkeypatch.setenv(NOTIFY_SOCKET, f"@{name}")

        notify_service_manager(READY)

        assert listener.recv(100) == b"READY=1"


def test_missing_service_manager_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NOTIFY_SOCKET, str(tmp_path / "missing"))

    with capture_logs() as lines:
        notify_service_manager(READY)

    assert [line["event"] for line in lines] == ["service manager not notified"]


def test_process_without_service_manager_logs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NOTIFY_SOCKET, raising=False)

    with capture_logs() as lines:
        notify_service_manager(READY)

    assert lines == []


def test_broker_reports_ready_after_state_answers(tmp_path: Path, manager: socket.socket) -> None:
    redis = RedisServer(redis_program())
    try:
        with starting(
            *(tmp_path, "--port", "0"),
            SCAN_LOGIN_STATE_URL=redis.url,
            NOTIFY_SOCKET=manager.getsockname(),
        ) as process:
            assert process.stderr is not None
            next(line for line in iter(process.stderr.readline, "") if "not ready" in line)
            assert not has_message(manager)
            redis.start()

            assert manager.recv(100) == b"READY=1"
    finally:
        redis.close()


def test_supervisor_reports_ready_once(
    tmp_path: Path, manager: socket.socket, engines: Engines
) -> None:
    with serving(
        *(tmp_path, "--port", "0", "--workers", "2"),
        SCAN_LOGIN_STATE_URL=engines.url("redis"),
        NOTIFY_SOCKET=manager.getsockname(),
    ) as (_, line):
        assert "ready on" in line

        assert manager.recv(100) == b"READY=1"
        assert not has_message(manager)
