"""The description of the HTTP surface is true: schemathesis asks everything that it allows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import CheckFunction
from schemathesis.specs.openapi import checks

from broker.app import build
from broker.calls import CALLS
from broker.infrastructure.api import openapi
from broker.pool.pictures import picture_key
from broker.settings import ROLES, load_settings
from tests.support.app_admin import TOKEN
from tests.support.clients import Payload
from tests.support.commands import serving
from tests.support.device_flow import GRANT
from tests.support.environment import free_port
from tests.support.session_server import basic

PICTURE = picture_key("a scene", "image/svg+xml")

FUZZ = settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    suppress_health_check=[*HealthCheck],
)

CHECKS: list[CheckFunction] = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
    checks.negative_data_rejection,
    checks.unsupported_method,
    checks.ignored_auth,
]


AT_ADMIN = ("apps", "metrics", "users")


class Town:
    """A broker in a process of its own, with two apps, and everybody who may ask it."""

    def __init__(self, url: str, admin: str) -> None:
        self.url = url
        self.admin = admin
        self.http = requests.Session()
        self.secrets = {name: self._add(name) for name in ("red", "blue")}

    def _add(self, name: str) -> str:
        self.operate("POST", "/apps", {"id": name, "name": name.title()})
        return str(self.operate("POST", f"/apps/{name}/rotate-secret")["api_secret"])

    def operate(self, method: str, path: str, body: Payload | None = None) -> Payload:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer: Payload = self.http.request(
            method, self.admin + path, json=body, headers=headers
        ).json()
        return answer

    def request(self, name: str, path: str, **how: Any) -> requests.Response:
        """Make a call of this name, whichever port it is at."""
        by = CALLS[name].by
        headers = how.pop("headers", None) or self.headers(by)
        port = self.admin if path.split("/")[1] in AT_ADMIN else self.url
        return self.http.request(name.split(" ")[0], port + path, headers=headers, **how)

    def session(self, app: str = "red", name: str = "alice") -> Payload:
        body = {"app": app, "js_code": f"pretend:{name}"}
        answer: Payload = self.http.post(f"{self.url}/phone/session", json=body).json()
        return answer

    def headers(self, by: str) -> dict[str, str]:
        """How a caller of that kind proves itself."""
        if by == "phone":
            session = self.session()
            return {"Authorization": f"Bearer {session['id']}.{session['skey']}"}
        if by == "server":
            return {"Authorization": basic("red", self.secrets["red"])}
        return {"Authorization": f"Bearer {TOKEN}"} if by == "operator" else {}


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    port, admin = free_port(), free_port()
    variables = {
        "SCAN_LOGIN_PORT": str(port),
        "SCAN_LOGIN_ADMIN_PORT": str(admin),
        "SCAN_LOGIN_ADMIN_TOKEN": TOKEN,
        "SCAN_LOGIN_DIRECTORY": "sql",
        "SCAN_LOGIN_BEGINS_PER_MINUTE": "1000000",
        "SCAN_LOGIN_MISSES_PER_MINUTE": "1000000",
    }
    folder = tmp_path_factory.mktemp("town")
    (folder / "scan-login-pictures").mkdir()
    (folder / "scan-login-pictures" / PICTURE).write_text("<svg/>")
    with serving(folder, **variables):
        yield Town(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}")


@pytest.fixture(scope="module")
def descriptions(town: Town) -> dict[str, Any]:
    """Of either port, by call."""
    read = [schemathesis.openapi.from_url(f"{url}/openapi.json") for url in (town.admin, town.url)]
    return {name: one for one in read for name in names(one.raw_schema)}


def names(description: Mapping[str, Any]) -> set[str]:
    paths = description["paths"]
    return {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_does_what_is_described(town: Town, descriptions: dict[str, Any], name: str) -> None:
    description = descriptions[name]
    method, path = name.split(" ")
    operation = description[path][method]
    config = description.config.generation_for(operation=operation)
    for case in description.iter_coverage_cases(
        operation, generation_modes=[*GenerationMode], generation_config=config
    ):
        conforms(case, town, name)

    @FUZZ
    @given(
        operation.as_strategy(GenerationMode.POSITIVE)
        | operation.as_strategy(GenerationMode.NEGATIVE)
    )
    def ask(case: Case[Any]) -> None:
        conforms(case, town, name)

    ask()


def conforms(case: Case[Any], town: Town, name: str) -> None:
    case.call_and_validate(headers=town.headers(CALLS[name].by), checks=CHECKS)


SIGNED_ELSEWHERE = {"POST /sessions/verify", "POST /sessions/decrypt"}
"""The pretend provider signs nothing; tests/api/test_session_journeys.py has these."""


def test_what_succeeds_is_answered_as_described(town: Town, descriptions: dict[str, Any]) -> None:
    done: set[str] = set()

    def ask(name: str, path: str = "", **how: Any) -> Payload:
        path = path or name.split(" ")[1]
        response = town.request(name, path, **how)
        assert response.status_code == CALLS[name].status, response.text
        method, described = name.split(" ")
        descriptions[name][described][method].validate_response(response)
        done.add(name)
        is_json = response.headers.get("Content-Type", "").startswith("application/json")
        return response.json() if is_json else {}

    def bearer(session: Payload) -> dict[str, str]:
        return {"Authorization": f"Bearer {session['id']}.{session['skey']}"}

    for name in CALLS:
        if name.startswith("GET ") and "{" not in name:
            ask(name)
    ask("POST /apps", json={"id": "green", "name": "Green"})
    one = "/apps/green"
    ask("GET /apps/{id}", one)
    ask("PATCH /apps/{id}", one, json={"login_lifetime": 90, "origins": ["https://green.example"]})
    ask("POST /apps/{id}/rotate-secret", f"{one}/rotate-secret")
    ask("GET /apps")
    ask("DELETE /apps/{id}", one)

    proof = {"app": "red", "js_code": "pretend:carol"}
    phone = bearer(ask("POST /phone/session", json=proof))
    ask("POST /users", json={"id": "carol", "name": "Carol"})
    one = "/users/carol"
    invited = ask("POST /users/{id}/invite", f"{one}/invite", json={"expires_in": 60})
    ask("POST /phone/register", json={"invitation": invited["invitation"]}, headers=phone)
    other = {"provider": "pretend", "provider_app_id": "", "openid": "carol-elsewhere"}
    ask("POST /users/{id}/link", f"{one}/link", json=other)
    ask("POST /users/{id}/unlink", f"{one}/unlink", json=other)
    ask("PATCH /users/{id}", one, json={"blocked": False})
    ask("GET /users/{id}", one)
    ask("GET /codes/{key}", f"/codes/{PICTURE}")
    for verb in ("confirm", "deny"):
        begun = ask("POST /oauth/device_authorization", data={"client_id": "red"})
        ask("POST /phone/scan", json={"scene": begun["user_code"]}, headers=phone)
        ask(f"POST /phone/{verb}", json={"login_id": begun["login_id"]}, headers=phone)
        if verb == "confirm":
            grant = {"grant_type": GRANT, "client_id": "red", "device_code": begun["device_code"]}
            ask("POST /oauth/token", data=grant)
    ask("DELETE /phone/session", headers=phone)
    ask("DELETE /phone/sessions", headers=bearer(town.session()))

    opened = ask("POST /sessions", json=proof)
    shown = {"id": opened["id"], "skey": opened["skey"]}
    ask("POST /sessions/check", json=shown)
    ask("POST /sessions/end", json=shown)
    ask("POST /sessions/end-all", json={"openid": "carol"})

    ask("DELETE /users/{id}", "/users/carol")

    assert done == {*CALLS} - SIGNED_ELSEWHERE


def test_every_route_is_described_and_nothing_more(tmp_path: Path) -> None:
    for roles in ((), *((role,) for role in ROLES)):
        broker = build(
            load_settings(
                key_file=tmp_path / "keys.json", admin_token=TOKEN, directory="sql", roles=roles
            )
        )
        told: set[str] = set()
        for application in (broker.public, broker.admin):
            described = openapi.build_document(application, "a port")
            schemathesis.openapi.from_dict(described).validate()
            told |= names(described)
            assert names(described) == {*openapi.served_operations(application)} - UNDESCRIBED
        if not roles:
            assert told == {*CALLS}


UNDESCRIBED = {"GET /socket.io/", "POST /socket.io/"}
"""Engine.IO's own protocol."""


def test_a_failure_is_described_with_its_words_and_status(tmp_path: Path) -> None:
    broker = build(load_settings(key_file=tmp_path / "keys.json"))
    described = openapi.build_document(broker.public, "a port")

    refused = described["paths"]["/phone/confirm"]["post"]["responses"]["403"]

    [_, one_of] = refused["content"]["application/json"]["schema"]["allOf"]
    assert one_of["properties"]["error"]["enum"] == ["access_denied", "unregistered_user"]
