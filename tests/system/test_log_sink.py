"""If log lines cannot be written, the broker continues and counts them."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, TextIO

import aiohttp
import pytest
import structlog

from broker.infrastructure.observability.logging import (
    LOG_LINES_DROPPED,
    Line,
    Writer,
    batches,
    rendered_by,
)
from tests.support.commands import COMMAND
from tests.support.environment import free_port
from tests.support.logins import logs_in
from tests.support.servers.redis import KEPT, RedisServer, redis_program, running
from tests.support.waiting import eventually

IMPORT_LOGS = "from broker.infrastructure.observability import logging as logs"

PIPE_BYTES = 4096
DROPPED = "scanlogin_log_lines_dropped_total"

LONG = 30.0
"""Seconds. A limit that also a busy machine keeps."""


class PipedBroker(NamedTuple):
    """A broker whose stdout and stderr are one pipe to this test."""

    url: str
    admin: str
    reader: int

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        timeout = aiohttp.ClientTimeout(30)
        async with (
            aiohttp.ClientSession(timeout=timeout) as http,
            http.get(f"{self.url}{path}", headers=headers) as response,
        ):
            return response.status, await response.text()

    async def dropped(self) -> float:
        async with aiohttp.ClientSession() as http, http.get(f"{self.admin}/metrics") as response:
            lines = (await response.text()).splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(DROPPED))


@contextmanager
def piped(folder: Path, *, ends: bool, **variables: str) -> Iterator[PipedBroker]:
    """Start a broker and wait for its ready line.

    ends: whether the reader of the pipe is closed then.
    """
    port, admin_port = free_port(), free_port()
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    named = {"SCAN_LOGIN_PORT": str(port), "SCAN_LOGIN_ADMIN_PORT": str(admin_port), **variables}
    process = subprocess.Popen(
        [*COMMAND, "serve"],
        cwd=folder,
        env={**os.environ, **named},
        stdout=writer,
        stderr=writer,
    )
    os.close(writer)
    try:
        output = b""
        while b" ready on " not in output:
            part = os.read(reader, PIPE_BYTES)
            assert part, output
            output += part
        if ends:
            os.close(reader)
        yield PipedBroker(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin_port}", reader)
    finally:
        process.kill()
        process.wait()
        if not ends:
            os.close(reader)


async def is_ready(broker: PipedBroker) -> bool:
    return (await broker.get("/health/ready"))[0] == 200


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with running(redis_program(), *KEPT) as server:
        yield server


async def test_ended_log_reader_keeps_redis_connection(tmp_path: Path, redis: RedisServer) -> None:
    with piped(tmp_path, ends=True, SCAN_LOGIN_STATE_URL=redis.url) as broker:
        redis.stop()
        await eventually(lambda: broker.dropped(), within=30)

        redis.start()

        await eventually(lambda: is_ready(broker), within=30)
        assert await logs_in(broker.url)


async def test_ended_log_reader_keeps_refusals_unchanged(tmp_path: Path) -> None:
    wechat = {
        "SCAN_LOGIN_PROVIDER": "wechat",
        "SCAN_LOGIN_WECHAT_APPID": "wx0123456789abcdef",
        "SCAN_LOGIN_WECHAT_SECRET": "s" * 32,
        "SCAN_LOGIN_WECHAT_API_URL": f"http://127.0.0.1:{free_port()}",
    }
    with piped(tmp_path, ends=True, **wechat) as broker:
        handshake = "/socket.io/?EIO=4&transport=polling"
        foreign = await broker.get(handshake, Origin="https://foreign.example")
        async with (
            aiohttp.ClientSession() as http,
            http.post(
                f"{broker.url}/oauth/device_authorization", data={"client_id": "default"}
            ) as response,
        ):
            refused = await response.json()

        assert (foreign[0], json.loads(foreign[1])["message"]) == (400, "Forbidden")
        assert (response.status, refused["error"]) == (503, "temporarily_unavailable")
        assert await broker.dropped() > 0


async def test_stalled_log_reader_does_not_stop_the_loop(tmp_path: Path) -> None:
    """The log is larger than the pipe, and no process reads it."""
    with piped(tmp_path, ends=False) as broker:
        for number in range(100):
            await broker.get(
                "/socket.io/?EIO=4&transport=polling", Origin=f"https://{number}.example"
            )

        assert (await broker.get("/health/live"))[0] == 200
        assert await logs_in(broker.url)
        read = await asyncio.to_thread(os.read, broker.reader, PIPE_BYTES)
        assert read.count(b"origin not allowed") > 1


def test_process_without_stderr_serves_and_counts() -> None:
    program = (
        f"{IMPORT_LOGS}; import sys; import structlog\n"
        "from broker.infrastructure.observability import metrics\n"
        "logs.configure('info')\n"
        "structlog.get_logger().info('x')\n"
        "logs.flush()\n"
        "print(sys.stderr, metrics.render().decode())"
    )

    ran = subprocess.run(
        ["/bin/sh", "-c", f'exec {sys.executable} -c "$1" 2>&-', "sh", program],
        capture_output=True,
        text=True,
        check=True,
    )

    assert ran.stdout.startswith("None ")
    assert f"{DROPPED} 1.0" in ran.stdout


def count() -> float:
    return LOG_LINES_DROPPED._value.get()


@pytest.fixture
def pipe() -> Iterator[tuple[BinaryIO, TextIO]]:
    """Both ends of a small pipe."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    with os.fdopen(writer, "w") as stream, os.fdopen(reader, "rb") as input:
        yield input, stream


def test_writer_with_full_queue_drops_and_counts(pipe: tuple[BinaryIO, TextIO]) -> None:
    reader, stream = pipe
    writer, before = Writer(lines_max=2), count()

    for _ in range(10):
        writer.put(stream, "x" * PIPE_BYTES)  # the first one fills the pipe and is stuck

    assert count() - before >= 7
    reader.close()
    writer.flush(30)


def test_writer_waits_for_a_pipe_that_does_not_block(pipe: tuple[BinaryIO, TextIO]) -> None:
    reader, stream = pipe
    os.set_blocking(stream.fileno(), False)
    writer, before, length = Writer(), count(), 3 * PIPE_BYTES

    writer.put(stream, "x" * length)

    assert reader.read(length) == b"x" * length
    writer.flush(30)
    assert count() == before


def test_finalizer_that_logs_during_put_does_not_deadlock(pipe: tuple[BinaryIO, TextIO]) -> None:
    """asyncio logs a collected task with an unretrieved exception in this way."""
    reader, stream = pipe
    writer = Writer(lines_max=1)

    def finalize(phase: str, info: dict[str, int]) -> None:
        writer.put(stream, "finalized\n")

    def put_many() -> None:
        for _ in range(100):
            writer.put(stream, "x" * PIPE_BYTES)  # the first one fills the pipe and is stuck

    thread = threading.Thread(target=put_many, daemon=True)
    threshold = gc.get_threshold()
    gc.callbacks.append(finalize)
    gc.set_threshold(1)
    try:
        thread.start()
        thread.join(LONG)
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(finalize)

    assert not thread.is_alive()
    reader.close()
    writer.flush(LONG)


def test_line_after_partial_write_starts_on_new_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This happens on a disk that is full for a while."""
    file = tmp_path / "log"
    writer, write, before = Writer(), os.write, count()
    with file.open("w") as stream:
        results = iter([lambda data: write(stream.fileno(), data[:2]), _no_space])
        monkeypatch.setattr(os, "write", lambda descriptor, data: next(results)(data))
        writer.put(stream, "torn\n")
        writer.flush(30)
        monkeypatch.undo()
        writer.put(stream, "whole\n")
        writer.flush(30)

    assert file.read_text() == "to\nwhole\n"
    assert count() == before + 1


def test_batch_that_fits_in_part_counts_the_other_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "log"
    writer, write, before = Writer(), os.write, count()
    with file.open("w") as stream:
        results = iter([lambda data: write(stream.fileno(), data[:6]), _no_space])
        monkeypatch.setattr(os, "write", lambda descriptor, data: next(results)(data))
        writer._write_all([Line(stream, text) for text in ("1st\n", "2nd\n", "3rd\n")])
        monkeypatch.undo()

    assert file.read_text() == "1st\n2n"
    assert count() == before + 2


def test_lines_share_writes_that_a_pipe_takes_whole() -> None:
    long, short = "x" * PIPE_BYTES, "x" * 1000
    lines = [Line(None, text) for text in (short, short, short, short, short, long, short)]

    groups = [list(map(len, group)) for _, group in batches([*lines, Line(sys.stdout, short)])]

    assert groups == [[1000] * 4, [1000], [PIPE_BYTES], [1000], [1000]]


def _no_space(data: bytes) -> int:
    raise OSError("no space left on device")


def test_field_that_cannot_be_rendered_raises_nothing() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    before = count()
    render = rendered_by([structlog.processors.JSONRenderer()])

    with pytest.raises(structlog.DropEvent):
        render(None, "info", {"event": "x", "field": Broken()})

    assert count() == before + 1


def test_last_lines_are_written_before_the_process_ends() -> None:
    program = (
        f"{IMPORT_LOGS}; import structlog; logs.configure('info')\n"
        "for number in range(1000): structlog.get_logger().info('x', number=number)"
    )

    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert [json.loads(line)["number"] for line in ran.stderr.splitlines()] == [*range(1000)]
