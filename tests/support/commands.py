"""Runs the `scan-login` command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from threading import Timer
from typing import NamedTuple

from typer.testing import CliRunner

from broker.cli.main import SUBCOMMANDS, command
from broker.errors import StartupError
from mp_stub.wechat.platform import APPID, SECRET
from tests.support.environment import ROOT, free_port

LIMIT = 120.0
"""Seconds after which a broker of these tests is killed."""

COMMAND = [sys.executable, "-m", "broker"]


def command_names() -> list[tuple[str, ...]]:
    """Return the words of every command that does something, such as `key list`."""
    names: list[tuple[str, ...]] = []
    for name, subcommand in SUBCOMMANDS.items():
        below = getattr(subcommand.load(), "commands", {})
        names += [(name, word) for word in below] or [(name,)]
    return names


def run(
    folder: Path, *arguments: str, stdin: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        input=stdin,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=90,
    )


def call(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`run` in this process, because a new process takes a second to start."""
    with chdir(folder):
        done = CliRunner().invoke(command, arguments, env=variables)
    assert done.exception is None or isinstance(done.exception, SystemExit | StartupError)
    errors = done.stderr or str(done.exception or "")
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, errors)


@contextmanager
def starting(
    folder: Path, *arguments: str, limit: float = LIMIT, **variables: str
) -> Iterator[subprocess.Popen[str]]:
    """Run `scan-login serve`; yields it before it is ready.

    limit: seconds after which the process is killed.
    """
    process = subprocess.Popen(
        [*COMMAND, "serve", *arguments],
        cwd=folder,
        env={**os.environ, "SCAN_LOGIN_ADMIN_PORT": "0", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    watchdog = Timer(limit, process.kill)  # a test that waits for a line then fails
    watchdog.start()
    try:
        yield process
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()


@contextmanager
def serving(
    folder: Path, *arguments: str, **variables: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `scan-login serve`; yields it and its ready line."""
    with starting(folder, *arguments, limit=LIMIT, **variables) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline()


@contextmanager
def wechat_serving() -> Iterator[str]:
    """Run `python -m mp_stub wechat`; yields its URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mp_stub", "wechat", "--port", str(free_port())],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert f"appid {APPID}, secret {SECRET}" in line
        yield line.split("WeChat stub at ")[1].split(",")[0]
    finally:
        process.terminate()
        process.communicate()


class CommandResult(NamedTuple):
    code: int
    text: str


Call = Callable[..., CommandResult]
