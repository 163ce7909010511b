"""Two apps in one broker, in any order of acts: nothing of the one is anything to the other.

A broker in a process of its own, over a real Redis and a database.  What it answers, logs
and stores is searched for every secret that was given out on the way.
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


class Town:
    """The broker and all who ask it.  said: every answer but those that give a secret out."""

    def __init__(self, url: str, admin: str) -> None:
        self.url = url
        self._http = requests.Session()
        self.said: list[str] = []
        self.secrets: dict[str, str] = {}
        operator = {"Authorization": f"Bearer {TOKEN}"}
        for name in APPS:
            body = {"id": name, "name": name, "origins": [f"https://{name}.example"]}
            self._http.post(f"{admin}/apps", json=body, headers=operator)
            rotated = self._http.post(f"{admin}/apps/{name}/rotate-secret", headers=operator)
            self.secrets[name] = rotated.json()["api_secret"]
        self.given = {*self.secrets.values(), TOKEN}

    def ask(self, method: str, path: str, shows: str = "", **how: Any) -> Payload:
        headers = {**how.pop("headers", {}), **({"Authorization": shows} if shows else {})}
        response = self._http.request(method, self.url + path, headers=headers, **how)
        answer: Payload = response.json()
        public = dict(answer)
        for name in ("skey", "device_code", "access_token"):
            if name in public:
                self.given.add(public.pop(name).rpartition(".")[2])
        self.said.append(f"{response.headers} {public}")
        return answer

    def server(self, app: str) -> str:
        return basic(app, self.secrets[app])


class Held(NamedTuple):
    """A session as its phone holds it."""

    app: str
    id: str
    skey: str

    @property
    def bearer(self) -> str:
        return f"Bearer {self.id}.{self.skey}"

    @property
    def shown(self) -> Payload:
        return {"id": self.id, "skey": self.skey}


class Begun(NamedTuple):
    """A login as its device holds it."""

    app: str
    id: str
    code: str
    scene: str


class Apart(RuleBasedStateMachine):
    """What each app may know of the sessions and logins of both."""

    sessions = Bundle("sessions")
    logins = Bundle("logins")

    town: Town

    @initialize()
    def somebody(self) -> None:
        """Nobody whom another run has seen: a person has 20 sessions and no more."""
        self.person = f"person-{next(names)}"
        self.ended: set[str] = set()
        self.scanned: dict[str, Held] = {}
        self.confirmed: set[str] = set()

    def alive(self, held: Held) -> bool:
        return held.id not in self.ended

    @rule(target=sessions, app=apps, itself=st.booleans())
    def log_in(self, app: str, itself: bool) -> Held:
        proof = {"app": app, "js_code": f"pretend:{self.person}"}
        path, shows = ("/phone/session", "") if itself else ("/sessions", self.town.server(app))
        answer = self.town.ask("POST", path, shows, json=proof)
        return Held(app, answer["id"], answer["skey"])

    @rule(held=sessions, app=apps, path=st.sampled_from(["check", "verify", "decrypt", "end"]))
    def a_server_asks(self, held: Held, app: str, path: str) -> None:
        signed = {"raw_data": "x", "signature": "0" * 40}
        body = {**held.shown, **signed, "encrypted_data": "A" * 24, "iv": "A" * 24}
        answer = self.town.ask("POST", f"/sessions/{path}", self.town.server(app), json=body)
        if held.app != app or not self.alive(held):
            assert answer["error"] == "invalid_session"
        elif path == "check":
            assert (answer["app"], answer["openid"]) == (app, self.person)
        elif path == "end":
            assert answer == {"ended": 1}
            self.ended.add(held.id)
        else:
            assert answer["error"] == "invalid_request"

    @rule(app=apps)
    def a_server_ends_all(self, app: str) -> None:
        body = {"openid": self.person}
        answer = self.town.ask("POST", "/sessions/end-all", self.town.server(app), json=body)
        ending = [one for one in self.all_sessions() if one.app == app and self.alive(one)]
        assert answer == {"ended": len(ending)}
        self.ended |= {one.id for one in ending}

    def all_sessions(self) -> list[Held]:
        return [one for one in self.names_to_values.values() if isinstance(one, Held)]

    @rule(held=sessions, everywhere=st.booleans())
    def a_phone_signs_out(self, held: Held, everywhere: bool) -> None:
        path = "/phone/sessions" if everywhere else "/phone/session"
        answer = self.town.ask("DELETE", path, held.bearer)
        if not self.alive(held):
            assert answer["error"] == "invalid_session"
            return
        same = [one for one in self.all_sessions() if one.app == held.app and self.alive(one)]
        ending = same if everywhere else [held]
        assert answer == {"ended": len(ending)}
        self.ended |= {one.id for one in ending}

    @rule(target=logins, app=apps)
    def begin(self, app: str) -> Begun:
        answer = self.town.ask("POST", "/oauth/device_authorization", data={"client_id": app})
        return Begun(app, answer["login_id"], answer["device_code"], answer["user_code"])

    @rule(app=apps, origin=apps)
    def a_page_begins(self, app: str, origin: str) -> None:
        page = {"Origin": f"https://{origin}.example"}
        form = {"client_id": app}
        answer = self.town.ask("POST", "/oauth/device_authorization", headers=page, data=form)
        assert answer.get("error") == (None if app == origin else "invalid_client")

    @rule(held=sessions, begun=logins)
    def scan(self, held: Held, begun: Begun) -> None:
        body = {"scene": begun.scene}
        answer = self.town.ask("POST", "/phone/scan", held.bearer, json=body)
        if not self.alive(held):
            assert answer["error"] == "invalid_session"
        elif held.app != begun.app:
            assert answer["error"] == "unknown_scene"
        elif "error" not in answer:
            self.scanned.setdefault(begun.id, held)

    @rule(held=sessions, begun=logins, verb=st.sampled_from(["confirm", "confirm", "deny"]))
    def decide(self, held: Held, begun: Begun, verb: str) -> None:
        body = {"login_id": begun.id}
        answer = self.town.ask("POST", f"/phone/{verb}", held.bearer, json=body)
        if not self.alive(held):
            assert answer["error"] == "invalid_session"
        elif held.app != begun.app:
            assert answer["error"] == "invalid_grant"
        elif answer.get("state") == "confirmed":
            assert begun.id in self.scanned
            self.confirmed.add(begun.id)

    @rule(begun=logins, app=apps)
    def redeem(self, begun: Begun, app: str) -> None:
        form = {"grant_type": GRANT, "client_id": app, "device_code": begun.code}
        answer = self.town.ask("POST", "/oauth/token", data=form)
        if app != begun.app:
            assert answer["error"] == "invalid_grant"
        elif "access_token" in answer:
            assert begun.id in self.confirmed
            claims = jwt.decode(answer["access_token"], options={"verify_signature": False})
            assert (claims["aud"], claims["sub"]) == (app, f"pretend:{self.person}")


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with running(redis_program()) as server:
        yield server


def test_nothing_of_one_app_is_anything_to_another(redis: RedisServer, tmp_path: Path) -> None:
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
        town = Apart.town = Town(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}")
        run_state_machine_as_test(
            Apart,
            settings=settings(
                max_examples=10,
                stateful_step_count=30,
                deadline=None,
                derandomize=True,
                suppress_health_check=[*HealthCheck],
            ),
        )
        town.ask("POST", "/sessions/check", "Basic canary", json={"skey": "canary"})
        stored = everything_in(redis)
        with closing(sqlite3.connect(tmp_path / "scan-login.db")) as database:
            recorded = "\n".join(database.iterdump())
        process.terminate()
        log = "".join(process.communicate())

    assert len(town.given) > 100
    assert "subject" in stored
    assert "red.example" in recorded
    assert "app changed" in log
    for said in (*town.said, stored, recorded, log):
        assert not leaked(town.given, said)
