"""Two apps in one broker, in any order of requests: neither app can read or use data of the other.

The broker runs in another process over a real Redis and a database. Its answers, logs and
stored data are searched for every secret that it returned.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import jwt
import pytest
import requests
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from tests.support.app_admin import TOKEN
from tests.support.clients import Payload
from tests.support.commands import serving
from tests.support.device_flow import GRANT
from tests.support.environment import free_port
from tests.support.leaks import everything_in, leaked
from tests.support.servers.redis import RedisServer, redis_program, running
from tests.support.session_server import basic

APPS = ("red", "blue")
apps = st.sampled_from(APPS)
names = count()


class Clients:
    """The broker and its clients.

    answers: every answer, without the secrets that it returns.
    """

    def __init__(self, url: str, admin: str) -> None:
        self.url = url
        self._http = requests.Session()
        self.answers: list[str] = []
        self.secrets: dict[str, str] = {}
        operator = {"Authorization": f"Bearer {TOKEN}"}
        for name in APPS:
            body = {"id": name, "name": name, "origins": [f"https://{name}.example"]}
            self._http.post(f"{admin}/apps", json=body, headers=operator)
            rotated = self._http.post(f"{admin}/apps/{name}/rotate-secret", headers=operator)
            self.secrets[name] = rotated.json()["api_secret"]
        self.secrets_returned = {*self.secrets.values(), TOKEN}

    def ask(self, method: str, path: str, authorization: str = "", **options: Any) -> Payload:
        headers = {
            **options.pop("headers", {}),
            **({"Authorization": authorization} if authorization else {}),
        }
        response = self._http.request(method, self.url + path, headers=headers, **options)
        answer: Payload = response.json()
        public = dict(answer)
        for name in ("skey", "device_code", "access_token"):
            if name in public:
                self.secrets_returned.add(public.pop(name).rpartition(".")[2])
        self.answers.append(f"{response.headers} {public}")
        return answer

    def server(self, app: str) -> str:
        return basic(app, self.secrets[app])


class PhoneSession(NamedTuple):
    """A session that its phone has."""

    app: str
    id: str
    skey: str

    @property
    def bearer(self) -> str:
        return f"Bearer {self.id}.{self.skey}"

    @property
    def credentials(self) -> Payload:
        return {"id": self.id, "skey": self.skey}


class DeviceLogin(NamedTuple):
    """A login that its device has."""

    app: str
    id: str
    code: str
    scene: str


class AppIsolation(RuleBasedStateMachine):
    """Sessions and logins of both apps, each used by either app."""

    sessions = Bundle("sessions")
    logins = Bundle("logins")

    clients: Clients

    @initialize()
    def start_run(self) -> None:
        """Use a new person in each run: a person has at most 20 sessions."""
        self.person = f"person-{next(names)}"
        self.ended: set[str] = set()
        self.scanned: dict[str, PhoneSession] = {}
        self.confirmed: set[str] = set()

    def is_active(self, session: PhoneSession) -> bool:
        return session.id not in self.ended

    @rule(target=sessions, app=apps, from_phone=st.booleans())
    def log_in(self, app: str, from_phone: bool) -> PhoneSession:
        proof = {"app": app, "js_code": f"pretend:{self.person}"}
        path, authorization = (
            ("/phone/session", "") if from_phone else ("/sessions", self.clients.server(app))
        )
        answer = self.clients.ask("POST", path, authorization, json=proof)
        return PhoneSession(app, answer["id"], answer["skey"])

    @rule(session=sessions, app=apps, path=st.sampled_from(["check", "verify", "decrypt", "end"]))
    def server_sends_request(self, session: PhoneSession, app: str, path: str) -> None:
        signed = {"raw_data": "x", "signature": "0" * 40}
        body = {**session.credentials, **signed, "encrypted_data": "A" * 24, "iv": "A" * 24}
        answer = self.clients.ask("POST", f"/sessions/{path}", self.clients.server(app), json=body)
        if session.app != app or not self.is_active(session):
            assert answer["error"] == "invalid_session"
        elif path == "check":
            assert (answer["app"], answer["openid"]) == (app, self.person)
        elif path == "end":
            assert answer == {"ended": 1}
            self.ended.add(session.id)
        else:
            assert answer["error"] == "invalid_request"

    @rule(app=apps)
    def server_ends_all(self, app: str) -> None:
        body = {"openid": self.person}
        answer = self.clients.ask("POST", "/sessions/end-all", self.clients.server(app), json=body)
        ending = [item for item in self.all_sessions() if item.app == app and self.is_active(item)]
        assert answer == {"ended": len(ending)}
        self.ended |= {item.id for item in ending}

    def all_sessions(self) -> list[PhoneSession]:
        return [item for item in self.names_to_values.values() if isinstance(item, PhoneSession)]

    @rule(session=sessions, everywhere=st.booleans())
    def phone_signs_out(self, session: PhoneSession, everywhere: bool) -> None:
        path = "/phone/sessions" if everywhere else "/phone/session"
        answer = self.clients.ask("DELETE", path, session.bearer)
        if not self.is_active(session):
            assert answer["error"] == "invalid_session"
            return
        same = [
            item for item in self.all_sessions() if item.app == session.app and self.is_active(item)
        ]
        ending = same if everywhere else [session]
        assert answer == {"ended": len(ending)}
        self.ended |= {item.id for item in ending}

    @rule(target=logins, app=apps)
    def begin(self, app: str) -> DeviceLogin:
        answer = self.clients.ask("POST", "/oauth/device_authorization", data={"client_id": app})
        return DeviceLogin(app, answer["login_id"], answer["device_code"], answer["user_code"])

    @rule(app=apps, origin=apps)
    def page_begins(self, app: str, origin: str) -> None:
        page = {"Origin": f"https://{origin}.example"}
        form = {"client_id": app}
        answer = self.clients.ask("POST", "/oauth/device_authorization", headers=page, data=form)
        assert answer.get("error") == (None if app == origin else "invalid_client")

    @rule(session=sessions, login=logins)
    def scan(self, session: PhoneSession, login: DeviceLogin) -> None:
        body = {"scene": login.scene}
        answer = self.clients.ask("POST", "/phone/scan", session.bearer, json=body)
        if not self.is_active(session):
            assert answer["error"] == "invalid_session"
        elif session.app != login.app:
            assert answer["error"] == "unknown_scene"
        elif "error" not in answer:
            self.scanned.setdefault(login.id, session)

    @rule(session=sessions, login=logins, verb=st.sampled_from(["confirm", "confirm", "deny"]))
    def decide(self, session: PhoneSession, login: DeviceLogin, verb: str) -> None:
        body = {"login_id": login.id}
        answer = self.clients.ask("POST", f"/phone/{verb}", session.bearer, json=body)
        if not self.is_active(session):
            assert answer["error"] == "invalid_session"
        elif session.app != login.app:
            assert answer["error"] == "invalid_grant"
        elif answer.get("state") == "confirmed":
            assert login.id in self.scanned
            self.confirmed.add(login.id)

    @rule(login=logins, app=apps)
    def redeem(self, login: DeviceLogin, app: str) -> None:
        form = {"grant_type": GRANT, "client_id": app, "device_code": login.code}
        answer = self.clients.ask("POST", "/oauth/token", data=form)
        if app != login.app:
            assert answer["error"] == "invalid_grant"
        elif "access_token" in answer:
            assert login.id in self.confirmed
            claims = jwt.decode(answer["access_token"], options={"verify_signature": False})
            assert (claims["aud"], claims["sub"]) == (app, f"pretend:{self.person}")


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with running(redis_program()) as server:
        yield server


def test_app_cannot_use_data_of_another_app(redis: RedisServer, tmp_path: Path) -> None:
    port, admin = free_port(), free_port()
    variables = {
        "SCAN_LOGIN_PORT": str(port),
        "SCAN_LOGIN_ADMIN_PORT": str(admin),
        "SCAN_LOGIN_ADMIN_TOKEN": TOKEN,
        "SCAN_LOGIN_STATE_URL": redis.url,
        "SCAN_LOGIN_LOG_LEVEL": "debug",
        "SCAN_LOGIN_BEGINS_PER_MINUTE": "1000000",
        "SCAN_LOGIN_MISSES_PER_MINUTE": "1000000",
    }
    with serving(tmp_path, **variables) as (process, _):
        clients = AppIsolation.clients = Clients(
            f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}"
        )
        run_state_machine_as_test(
            AppIsolation,
            settings=settings(
                max_examples=10,
                stateful_step_count=30,
                deadline=None,
                derandomize=True,
                suppress_health_check=[*HealthCheck],
            ),
        )
        clients.ask("POST", "/sessions/check", "Basic canary", json={"skey": "canary"})
        stored = everything_in(redis)
        with closing(sqlite3.connect(tmp_path / "scan-login.db")) as database:
            recorded = "\n".join(database.iterdump())
        process.terminate()
        log = "".join(process.communicate())

    assert len(clients.secrets_returned) > 50
    assert "began_at" in stored
    assert "red.example" in recorded
    assert "app changed" in log
    for output in (*clients.answers, stored, recorded, log):
        assert not leaked(clients.secrets_returned, output)
