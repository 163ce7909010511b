"""Brokers, commands and backups share one SQLite file, and a lost file is detected."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.environment import ROOT, free_port, need
from tests.support.waiting import wait_until

TOKEN = "t" * 32
PARALLEL = 8
TIMEOUT = 60.0
"""Seconds for a step, on a busy machine."""

COMMAND = [sys.executable, "-m", "broker"]

HOLD_OPEN = """
import sqlite3, sys
connection = sqlite3.connect("scan-login.db")
connection.execute("SELECT count(*) FROM apps").fetchall()
print("open", flush=True)
sys.stdin.read()
connection.close()
"""
"""A program that keeps the file open until its standard input ends."""


class BrokerProcess:
    """`scan-login serve` in `folder`, which contains its database."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder = folder
        self.url, self.admin = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        settings = {
            "PORT": self.url.rpartition(":")[2],
            "ADMIN_PORT": self.admin.rpartition(":")[2],
            "ADMIN_TOKEN": TOKEN,
            "DIRECTORY": "sql",
            **variables,
        }
        self.environment = os.environ | {f"SCAN_LOGIN_{k}": v for k, v in settings.items()}
        self._log = (folder / "broker.log").open("ab")
        self._process = subprocess.Popen(
            [*COMMAND, "serve"],
            cwd=folder,
            env=self.environment,
            stdout=self._log,
            stderr=self._log,
        )

    def readiness(self) -> tuple[int, str]:
        """Return the status and text of `/health/ready`; status 0 if the broker does not answer."""
        assert self._process.poll() is None, self.log()
        with suppress(requests.ConnectionError):
            answer = requests.get(f"{self.url}/health/ready", timeout=TIMEOUT)
            return answer.status_code, answer.text
        return 0, ""

    def is_ready(self) -> bool:
        return self.readiness()[0] == 200

    def log(self) -> str:
        return (self.folder / "broker.log").read_text()

    def ask(self, method: str, path: str, body: Any = None) -> requests.Response:
        """Send a request to the admin port."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        return requests.request(
            method, self.admin + path, json=body, headers=headers, timeout=TIMEOUT
        )

    def apps(self) -> set[str]:
        return {app["id"] for app in self.ask("GET", "/apps").json()["apps"]}

    def metric(self, name: str) -> float:
        lines = requests.get(f"{self.admin}/metrics", timeout=TIMEOUT).text.splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))

    def open_files(self) -> list[str]:
        """Return the database files that the broker has open, deleted ones with `(deleted)`."""
        found = []
        for descriptor in Path(f"/proc/{self._process.pid}/fd").iterdir():
            with suppress(OSError):
                found.append(str(descriptor.readlink()))
        return [name for name in found if "scan-login.db" in name]

    def fill_connection_pool(self) -> None:
        """Make the pool hold several connections."""

        def has_connections() -> bool:
            in_parallel(lambda _: self.ask("GET", "/apps"))
            return sum(name.endswith("scan-login.db") for name in self.open_files()) >= 3

        wait_until(has_connections)

    def command(self, *words: str) -> None:
        done = subprocess.run(
            [*COMMAND, *words],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        assert done.returncode == 0, done.stderr

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(TIMEOUT)
        self._log.close()


@pytest.fixture
def serve(tmp_path: Path, records_file: Path) -> Iterator[Callable[..., BrokerProcess]]:
    """Starts brokers over the database `scan-login.db`. Keyword arguments are settings."""
    records_file.rename(tmp_path / "scan-login.db")
    brokers: list[BrokerProcess] = []

    def start(folder: Path = tmp_path, **variables: str) -> BrokerProcess:
        brokers.append(BrokerProcess(folder, **variables))
        wait_until(brokers[-1].is_ready)
        return brokers[-1]

    yield start
    for broker in brokers:
        broker.kill()


def in_parallel(act: Callable[[int], Any]) -> list[Any]:
    with ThreadPoolExecutor(PARALLEL) as threads:
        return list(threads.map(act, range(PARALLEL)))


@contextmanager
def held_open(folder: Path) -> Iterator[None]:
    """Keep the file open in another program inside the block."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_OPEN],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"open\n"
        yield
        process.stdin.close()
        assert process.wait(TIMEOUT) == 0


class PhonePerson:
    """A phone with a session, and logins that it has scanned."""

    def __init__(self, broker: BrokerProcess, name: str) -> None:
        self._broker = broker
        session = self._post("/phone/session", {"app": "default", "js_code": f"pretend:{name}"})
        self._headers = {"Authorization": f"Bearer {session['id']}.{session['skey']}"}

    def confirm(self, login_id: str) -> str:
        """Confirm, and return the state of the login or the error."""
        answer = self._post("/phone/confirm", {"login_id": login_id}, self._headers)
        return str(answer.get("error") or answer["state"])

    def begin_and_scan(self) -> str:
        """Begin and scan a login, and return its `login_id`."""
        login = requests.post(
            f"{self._broker.url}/oauth/device_authorization",
            data={"client_id": "default"},
            timeout=TIMEOUT,
        ).json()
        scanned = self._post("/phone/scan", {"scene": login["user_code"]}, self._headers)
        return str(scanned["login_id"])

    def _post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> dict[str, Any]:
        url = self._broker.url + path
        answer = requests.post(url, json=body, headers=headers, timeout=TIMEOUT)
        return dict(answer.json())


Serve = Callable[..., BrokerProcess]

# --- locks


def test_other_programs_do_not_damage_open_database(serve: Serve, tmp_path: Path) -> None:
    with held_open(tmp_path):  # the other program opens the file first
        broker = serve()
        broker.fill_connection_pool()
    created = [broker.ask("POST", "/apps", {"id": "first", "name": "First"})]

    broker.command("app", "add", "second")
    broker.command("user", "add", "u-alice")
    broker.command("pool", "status")
    broker.fill_connection_pool()
    broker.command("app", "set", "second", "--name", "Renamed")
    created.append(broker.ask("POST", "/apps", {"id": "third", "name": "Third"}))
    files = broker.open_files()
    broker.kill()

    assert [answer.status_code for answer in created] == [201, 201]
    assert [name for name in files if "(deleted)" in name] == []
    assert serve().apps() == {"first", "second", "third"}


def test_blocked_user_is_refused_on_every_connection(serve: Serve) -> None:
    broker = serve()
    broker.command("user", "add", "u-alice")
    broker.command("user", "link", "u-alice", "--openid", "alice")
    phone = PhonePerson(broker, "alice")
    logins = [phone.begin_and_scan() for _ in range(2 * PARALLEL)]
    broker.fill_connection_pool()
    broker.command("user", "set", "u-alice", "--name", "Alice")
    broker.ask("POST", "/apps", {"id": "site", "name": "Site"})
    before = in_parallel(lambda number: phone.confirm(logins[number]))

    broker.command("user", "block", "u-alice")
    after = in_parallel(lambda number: phone.confirm(logins[PARALLEL + number]))

    assert set(before) == {"confirmed"}
    assert set(after) == {"access_denied"}


def test_two_brokers_share_one_database_file(serve: Serve) -> None:
    first = serve()
    first.fill_connection_pool()
    first.command("app", "add", "first")
    two = serve()
    two.fill_connection_pool()

    in_parallel(lambda n: first.ask("POST", "/apps", {"id": f"one-{n}", "name": "One"}))
    in_parallel(lambda n: two.ask("POST", "/apps", {"id": f"two-{n}", "name": "Two"}))
    seen = [broker.apps() for broker in (first, two)]
    first.kill()

    added = {f"{name}-{n}" for name in ("one", "two") for n in range(PARALLEL)}
    all_apps = {"first", *added}
    assert seen == [all_apps, all_apps]
    assert two.apps() == all_apps
    assert [name for name in two.open_files() if "(deleted)" in name] == []


def test_brokers_started_together_create_one_file(serve: Serve, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    folder.mkdir()

    with ThreadPoolExecutor(2) as threads:
        first, two = threads.map(lambda _: serve(folder), range(2))
    first.ask("POST", "/apps", {"id": "first", "name": "First"})

    assert two.apps() == {"first"}
    assert {file.stat().st_mode & 0o777 for file in folder.glob("*.db*")} == {0o600}
    assert first.log().count("database file created") == 1


def backup_command() -> str:
    """Return the documented command."""
    need("sqlite3")
    [command] = re.findall(r"`([^`\n]+\.backup[^`\n]+)`", (ROOT / "docs/deploy.md").read_text())
    return str(command)


def test_backup_under_load_restores_complete_database(serve: Serve, tmp_path: Path) -> None:
    broker, restored = serve(), tmp_path / "restored"
    broker.fill_connection_pool()
    created_count = [0]

    def add_apps(number: int) -> None:
        while not (tmp_path / "copy.db").exists() or created_count[0] < 4 * PARALLEL:
            name = f"app-{number}-{created_count[0]}"
            if broker.ask("POST", "/apps", {"id": name, "name": name}).status_code == 201:
                created_count[0] += 1

    broker.ask("POST", "/apps", {"id": "first", "name": "First"})
    with ThreadPoolExecutor(PARALLEL) as threads:
        adding = [threads.submit(add_apps, number) for number in range(PARALLEL)]
        wait_until(lambda: created_count[0] >= PARALLEL)
        before = broker.apps()
        backup = ["sh", "-c", backup_command()]
        subprocess.run(backup, cwd=tmp_path, check=True, timeout=TIMEOUT)
        for first in adding:
            first.result()
    files = broker.open_files()
    restored.mkdir()
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600
    (tmp_path / "copy.db").rename(restored / "scan-login.db")

    with closing(sqlite3.connect(restored / "scan-login.db")) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert serve(restored).apps() >= before
    assert [name for name in files if "(deleted)" in name] == []


# --- a file that is deleted or replaced


@pytest.mark.parametrize("act", ["delete", "replace"])
def test_lost_database_file_fails_changes_and_readiness(
    serve: Serve, tmp_path: Path, act: str
) -> None:
    file, aside = tmp_path / "scan-login.db", tmp_path / "aside.db"
    broker = serve()
    broker.fill_connection_pool()
    assert broker.metric("scanlogin_records_file_lost") == 0

    file.rename(aside)
    if act == "replace":
        file.write_bytes(aside.read_bytes())
    answers = in_parallel(lambda n: broker.ask("POST", "/apps", {"id": f"a-{n}", "name": "A"}))
    status, reason = broker.readiness()
    wait_until(lambda: broker.metric("scanlogin_records_file_lost") == 1)

    assert {answer.status_code for answer in answers} == {503}
    assert (status, "database file" in reason) == (503, True)
    assert broker.metric("scanlogin_records_down") == 1
    logged = {"delete": "the database file is missing or inaccessible", "replace": "was replaced"}
    wait_until(lambda: logged[act] in broker.log())
    assert file.exists() is (act == "replace")

    aside.rename(file)
    wait_until(lambda: broker.metric("scanlogin_records_file_lost") == 0)
    assert broker.is_ready()
    assert broker.ask("POST", "/apps", {"id": "a", "name": "A"}).status_code == 201


def test_lost_database_file_keeps_open_directory_ready(serve: Serve, tmp_path: Path) -> None:
    broker = serve(DIRECTORY="open")

    (tmp_path / "scan-login.db").unlink()
    wait_until(lambda: broker.metric("scanlogin_records_file_lost") == 1)

    assert broker.is_ready()
    phone = PhonePerson(broker, "alice")
    assert phone.confirm(phone.begin_and_scan()) == "confirmed"
