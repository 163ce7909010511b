"""PostgreSQL and PgBouncer."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.support.environment import free_port, miss, need, need_file
from tests.support.waiting import (
    START_TIMEOUT,
    listens,
    wait_for_start,
)


def postgres_programs() -> Path:
    """Return the folder of `postgres` and `initdb`, which is not on Debian's PATH."""
    for found in [*Path("/usr/lib/postgresql").glob("*/bin"), Path(need("initdb")).parent]:
        if (found / "postgres").exists():
            return found
    miss("postgres is not installed: run make test as root on Debian, or install it")


class PostgresServer:
    """A PostgreSQL that can be stopped, paused and started again.

    PostgreSQL refuses to run as root, so root runs it as the user `nobody`.
    """

    USER = "scanlogin"

    def __init__(self) -> None:
        self._programs = postgres_programs()
        self._folder = tempfile.TemporaryDirectory(prefix="scan-login-postgres-")
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        self._run_as: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self._run_as = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
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
            **self._run_as,
        )

    @property
    def data(self) -> Path:
        return Path(self._folder.name) / "data"

    def url(self, database: str = "postgres") -> str:
        return f"postgresql+asyncpg://{self.USER}:hunter2@127.0.0.1:{self.port}/{database}"

    def new_database(self, template: str = "template0") -> str:
        """Create a database as a copy of `template`, and return its URL."""
        self._databases += 1
        name = f"test_{self._databases}"
        self.ask(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def ask(self, statement: str, database: str = "postgres") -> str:
        """Run a statement with `psql`, independent of the broker, and return its output."""
        return self._run("psql", "-X", "-A", "-t", "-c", statement, database)

    def dump(self, url: str) -> str:
        """Return the dump of a database."""
        return self._run("pg_dump", url.rpartition("/")[2])

    def start(self) -> None:
        """Start the server, and return when it answers."""
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
            **self._run_as,
        )
        program = str(self._programs / "pg_isready")
        command = [program, "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        wait_for_start(self._process, lambda: subprocess.run(command).returncode == 0)

    def stop(self) -> None:
        """End the server. Its data remain."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        self._process.wait(START_TIMEOUT)

    def pause(self) -> None:
        """Pause the server with SIGSTOP: connections stay open without answers."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal_all(signal.SIGCONT)

    def revive(self) -> None:
        """Start or resume the server."""
        if self._process is None or self._process.poll() is not None:
            self.start()
        else:
            self.resume()

    def _signal_all(self, number: signal.Signals) -> None:
        assert self._process is not None
        pid = self._process.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with suppress(ProcessLookupError):  # an idle child may have ended
                os.kill(int(child), number)
        self._process.send_signal(number)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.resume()
            self._process.send_signal(signal.SIGQUIT)  # ends the children too, without a checkpoint
            self._process.wait(START_TIMEOUT)
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
    """A PgBouncer in front of a PostgreSQL.

    mode: `session`, or `transaction`, in which all clients share a few server connections.
    """

    POOL_SIZES: Mapping[str, int] = {"session": 40, "transaction": 3}

    def __init__(self, server: PostgresServer, mode: str) -> None:
        self._program = need_file("/usr/sbin/pgbouncer")
        self._server = server
        self._folder = tempfile.TemporaryDirectory(prefix="scan-login-pgbouncer-")
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._run_as: dict[str, Any] = {}
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
        if os.geteuid() == 0:  # PgBouncer refuses to run as root
            nobody = pwd.getpwnam("nobody")
            self._run_as = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            folder.chmod(0o755)

    def url(self, database: str) -> str:
        """Return the URL of `database`, which is a name or a URL at the server."""
        name = database.rpartition("/")[2]
        return f"postgresql+asyncpg://{self._server.USER}:hunter2@127.0.0.1:{self.port}/{name}"

    def start(self) -> None:
        """Start PgBouncer, and return when it listens."""
        self._process = subprocess.Popen(
            [self._program, "-q", f"{self._folder.name}/pgbouncer.ini"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            **self._run_as,
        )
        wait_for_start(self._process, lambda: listens(self.port))

    def stop(self) -> None:
        """Kill PgBouncer with all its connections."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(START_TIMEOUT)

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
