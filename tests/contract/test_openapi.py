"""The OpenAPI documents match the broker: schemathesis tests every endpoint against them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import requests
import schemathesis
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import HealthCheck, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import CheckFunction
from schemathesis.specs.openapi import checks

from broker import __version__
from broker.app import build
from broker.apps.api import AppAddRequest
from broker.apps.authentication import SERVER
from broker.apps.client_authentication import CLIENT
from broker.apps.rules import FIELD_RULES
from broker.files.authentication import HOLDER, URL_OR_HOLDER
from broker.infrastructure.api.authorization import OPERATOR, RECORDED
from broker.infrastructure.api.endpoint import ADMIN, PUBLIC, Auth
from broker.infrastructure.api.openapi import DOCUMENTED_METHODS, build_document, name_of
from broker.oidc.userinfo_api import ACCESS_TOKEN
from broker.pool.pictures import picture_key
from broker.sessions.authentication import PHONE
from broker.settings import ROLES, load_settings
from broker.users.admin_api import IdentityRequest, InvitationRequest, UserAddRequest
from broker.users.rules import IDENTITY_RULES, INVITATION_RULES, USER_RULES
from tests.support.app_admin import TOKEN
from tests.support.clients import Payload
from tests.support.commands import starting
from tests.support.device_flow import GRANT
from tests.support.endpoints import DECLARED, ENDPOINTS
from tests.support.environment import free_port
from tests.support.files import PNG
from tests.support.session_server import basic
from tests.support.wafer import session_call

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


CODE_CHECKS = [check for check in CHECKS if check is not checks.negative_data_rejection]
"""Checks of Wafer's calls, which answer invalid requests with status 200 and a code."""

STREAMS = {"GET /events"}
"""Endpoints whose responses do not end."""

BROKER_LIMIT = 1_800.0
"""Seconds after which the broker of all these tests is killed."""

CALLBACK = "https://red.example/callback"


class BrokerClient:
    """Sends requests to a broker in another process, with two apps, for each kind of client."""

    def __init__(self, url: str, admin: str) -> None:
        self.url = url
        self.admin = admin
        self.http = requests.Session()
        self.secrets = {name: self._add_app(name) for name in ("red", "blue")}
        self.operate("POST", "/users", {"id": "dora", "name": "Dora"})
        dora = {"provider": "pretend", "provider_app_id": "", "openid": "dora"}
        self.operate("POST", "/users/dora/link", dora)

    def _add_app(self, name: str) -> str:
        fields: Payload = {"id": name, "name": name.title(), "redirect_urls": [CALLBACK]}
        self.operate("POST", "/apps", fields)
        return str(self.operate("POST", f"/apps/{name}/rotate-secret")["api_secret"])

    def operate(self, method: str, path: str, body: Payload | None = None) -> Payload:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer: Payload = self.http.request(
            method, self.admin + path, json=body, headers=headers
        ).json()
        return answer

    def request(self, name: str, path: str, **options: Any) -> requests.Response:
        """Send a request to the endpoint of this name, at its port."""
        headers = options.pop("headers", None) or self.headers(ENDPOINTS[name].auth)
        port = self.admin if ENDPOINTS[name].role == ADMIN else self.url
        return self.http.request(name.split(" ")[0], port + path, headers=headers, **options)

    def session(self, app: str = "red", name: str = "alice") -> Payload:
        body = {"app": app, "js_code": f"pretend:{name}"}
        answer: Payload = self.http.post(f"{self.url}/phone/session", json=body).json()
        return answer

    def openid_tokens(self) -> Payload:
        """Return the tokens of a login of the app `red` on a device."""
        app = {"Authorization": basic("red", self.secrets["red"])}
        login = self._post("/oauth/device_authorization", app, data={"scope": "openid profile"})
        phone = bearer(self.session(name="dora"))
        self._post("/phone/scan", phone, json={"scene": login["user_code"]})
        self._post("/phone/confirm", phone, json={"login_id": login["login_id"]})
        grant = {"grant_type": GRANT, "device_code": login["device_code"]}
        return self._post("/oauth/token", app, data=grant)

    def _post(self, path: str, headers: Mapping[str, str], **body: Any) -> Payload:
        answer: Payload = self.http.post(self.url + path, headers=headers, **body).json()
        return answer

    def headers(self, auth: Auth) -> dict[str, str]:
        """Return the headers that authenticate a client."""
        if auth is PHONE:
            return bearer(self.session())
        if auth is ACCESS_TOKEN:
            return {"Authorization": f"Bearer {self.openid_tokens()['access_token']}"}
        if auth in (SERVER, CLIENT, HOLDER, URL_OR_HOLDER):
            return {"Authorization": basic("red", self.secrets["red"])}
        return {"Authorization": f"Bearer {TOKEN}"} if auth in (OPERATOR, RECORDED) else {}


def bearer(session: Payload) -> dict[str, str]:
    return {"Authorization": f"Bearer {session['id']}.{session['skey']}"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerClient]:
    port, admin = free_port(), free_port()
    variables = {
        "SCAN_LOGIN_PORT": str(port),
        "SCAN_LOGIN_ADMIN_PORT": str(admin),
        "SCAN_LOGIN_ADMIN_TOKEN": TOKEN,
        "SCAN_LOGIN_DIRECTORY": "sql",
        "SCAN_LOGIN_BEGINS_PER_MINUTE": "1000000",
        "SCAN_LOGIN_MISSES_PER_MINUTE": "1000000",
    }
    folder = tmp_path_factory.mktemp("broker")
    variables["SCAN_LOGIN_FILES_URL"] = (folder / "files").as_uri()
    (folder / "scan-login-pictures").mkdir()
    (folder / "scan-login-pictures" / PICTURE).write_text("<svg/>")
    with starting(folder, limit=BROKER_LIMIT, **variables) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield BrokerClient(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}")


@pytest.fixture(scope="module")
def documents(client: BrokerClient) -> dict[str, Any]:
    """The OpenAPI document that contains each endpoint, by the endpoint's name."""
    ports = (client.admin, client.url)
    read = [schemathesis.openapi.from_url(f"{url}/openapi.json") for url in ports]
    return {name: one for one in read for name in names(one.raw_schema)}


def names(document: Mapping[str, Any]) -> set[str]:
    paths = document["paths"]
    return {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}


@pytest.mark.parametrize("name", [name for name in ENDPOINTS if name not in STREAMS])
def test_endpoint_matches_its_document(
    client: BrokerClient, documents: dict[str, Any], name: str
) -> None:
    document = documents[name]
    method, path = name.split(" ")
    operation = document[path][method]
    config = document.config.generation_for(operation=operation)
    for case in document.iter_coverage_cases(
        operation, generation_modes=[*GenerationMode], generation_config=config
    ):
        conforms(case, client, name)

    @FUZZ
    @given(
        operation.as_strategy(GenerationMode.POSITIVE)
        | operation.as_strategy(GenerationMode.NEGATIVE)
    )
    def send(case: Case[Any]) -> None:
        conforms(case, client, name)

    send()


def conforms(case: Case[Any], client: BrokerClient, name: str) -> None:
    endpoint = ENDPOINTS[name]
    checked = CODE_CHECKS if endpoint.role == "wafer" else CHECKS
    case.call_and_validate(headers=client.headers(endpoint.auth), checks=checked)


TESTED_ELSEWHERE = {
    "POST /sessions/verify",
    "POST /sessions/decrypt",
    "POST /phone/phone-number",
    "POST /oauth/login",
    "POST /tunnels/{tunnel_id}/push",
    "GET /tunnels/{tunnel_id}",
    "PATCH /tunnels/{tunnel_id}",
    "DELETE /tunnels/{tunnel_id}",
    "DELETE /logins/{id}",
    "DELETE /sessions/{id}",
    "DELETE /signins/{sid}",
    *STREAMS,
}
"""The pretend provider signs nothing and knows no phone numbers: tests/api/test_session_journeys.py
and test_users_api.py. The form of the login page needs its cookie: test_oidc_login.py. An open
tunnel needs a client: test_tunnels.py. What operators end has to exist: test_admin_api.py."""

NEEDS_FIELDS = {
    *("GET /oauth/userinfo", "GET /oauth/authorize", "GET /sessions", "GET /signins"),
    *STREAMS,
}


class Journal:
    """Sends requests that succeed, and checks each response against the document."""

    def __init__(self, client: BrokerClient, documents: dict[str, Any]) -> None:
        self.client = client
        self.documents = documents
        self.done: set[str] = set()

    def __call__(self, name: str, path: str = "", **options: Any) -> Payload:
        method, documented = name.split(" ")
        response = self.client.request(name, path or documented, **options)
        assert response.status_code == ENDPOINTS[name].status, response.text
        self.documents[name][documented][method].validate_response(response)
        self.done.add(name)
        is_json = response.headers.get("Content-Type", "").startswith("application/json")
        return response.json() if is_json else {}


def test_successful_responses_match_the_document(
    client: BrokerClient, documents: dict[str, Any]
) -> None:
    send = Journal(client, documents)

    for name in ENDPOINTS:
        if name.startswith("GET ") and "{" not in name and name not in NEEDS_FIELDS:
            send(name)
    send("GET /scan-login-{version}.js", f"/scan-login-{__version__}.js")
    send("GET /admin/{name}", "/admin/texts.js")
    send("GET /api/{file}", "/api/reference.css")
    change_apps(send)
    operate(send)
    use_phones(send)
    use_sessions(send)
    use_tunnels(send)
    use_files(send)
    use_wafer(send)
    use_tokens(send)

    assert send.done == {*ENDPOINTS} - TESTED_ELSEWHERE


def change_apps(send: Journal) -> None:
    send("POST /apps", json={"id": "green", "name": "Green"})
    one = "/apps/green"
    send("GET /apps/{id}", one)
    send("PATCH /apps/{id}", one, json={"login_lifetime": 90, "origins": ["https://green.example"]})
    send("POST /apps/{id}/rotate-secret", f"{one}/rotate-secret")
    send("POST /apps/{id}/rotate-webhook-secret", f"{one}/rotate-webhook-secret")
    send("GET /apps")
    send("DELETE /apps/{id}", one)


def operate(send: Journal) -> None:
    send("GET /sessions", params={"app": "red", "openid": "alice"})
    send("GET /signins", params={"subject": "dora"})
    send("POST /keys/rotate", json={"now": True})
    pool = {"id": "pooled", "name": "Pooled", "code_source": "pool"}
    send("POST /apps", json=pool)
    send("POST /pool/{app}/fill", "/pool/pooled/fill", json={"count": 1})
    send("DELETE /apps/{id}", "/apps/pooled")


PROOF = {"app": "red", "js_code": "pretend:carol"}


def use_phones(send: Journal) -> None:
    phone = bearer(send("POST /phone/session", json=PROOF))
    register(send, phone)
    send("GET /codes/{key}", f"/codes/{PICTURE}")
    for act in ("confirm", "deny"):
        login = send("POST /oauth/device_authorization", data={"client_id": "red"})
        send("POST /phone/scan", json={"scene": login["user_code"]}, headers=phone)
        send(f"POST /phone/{act}", json={"login_id": login["login_id"]}, headers=phone)
        if act == "confirm":
            grant = {"grant_type": GRANT, "client_id": "red", "device_code": login["device_code"]}
            send("POST /oauth/token", data=grant)
            send("POST /phone/report", json={"login_id": login["login_id"]}, headers=phone)
    send("DELETE /phone/signins/{sid}", f"/phone/signins/{'x' * 22}", headers=phone)
    send("DELETE /phone/signins", headers=phone)
    send("DELETE /phone/session", headers=phone)
    send("DELETE /phone/sessions", headers=bearer(send.client.session()))


def register(send: Journal, phone: Mapping[str, str]) -> None:
    send("POST /users", json={"id": "carol", "name": "Carol"})
    one = "/users/carol"
    invited = send("POST /users/{id}/invite", f"{one}/invite", json={"expires_in": 60})
    send("POST /phone/register", json={"invitation": invited["invitation"]}, headers=phone)
    other = {"provider": "pretend", "provider_app_id": "", "openid": "carol-elsewhere"}
    send("POST /users/{id}/link", f"{one}/link", json=other)
    send("POST /users/{id}/unlink", f"{one}/unlink", json=other)
    send("PATCH /users/{id}", one, json={"blocked": False})
    send("GET /users/{id}", one)


def use_sessions(send: Journal) -> None:
    opened = send("POST /sessions", json=PROOF)
    token = {"id": opened["id"], "skey": opened["skey"]}
    send("POST /sessions/check", json=token)
    send("POST /sessions/end", json=token)
    send("POST /sessions/end-all", json={"openid": "carol"})
    send("DELETE /users/{id}", "/users/carol")


def use_files(send: Journal) -> None:
    file = send("POST /files", files={"file": ("a.png", PNG)})
    one = f"/files/{file['file_id']}"
    send("GET /files/{file_id}", one)
    send("GET /files/{file_id}/meta", f"{one}/meta")
    send("DELETE /files/{file_id}", one)


def use_wafer(send: Journal) -> None:
    body = session_call("id_skey", code="pretend:alice")
    send("POST /mina_auth/", json=body)
    send("POST /wafer/{app}/mina_auth/", "/wafer/red/mina_auth/", json=body)
    for path in ("/get/wsurl", "/ws/push"):
        send(f"POST {path}", json={})
        send(f"POST /wafer/{{app}}{path}", f"/wafer/red{path}", json={})


def use_tunnels(send: Journal) -> None:
    send("PATCH /apps/{id}", "/apps/red", json={"tunnel_url": "https://red.example/tunnel"})
    send("POST /tunnels", json={"app": "red", "meta": {"room": 7}})
    message = {"to": {"tunnel_ids": ["A" * 22]}, "data": 7}
    send("POST /tunnels/push", json={"app": "red", "messages": [message]})


def use_tokens(send: Journal) -> None:
    token = {"token": send.client.openid_tokens()["access_token"]}
    send("GET /oauth/userinfo")
    send("POST /oauth/userinfo")
    send("POST /oauth/introspect", data=token)
    send("POST /oauth/revoke", data=token)
    request = {"client_id": "red", "redirect_uri": CALLBACK, "response_type": "code"}
    send("GET /oauth/authorize", params=request)
    send("POST /oauth/authorize", data=request, allow_redirects=False)
    send("POST /oauth/par", data=request)
    send("POST /oauth/logout", data={"client_id": "red"})


def start_with_roles(folder: Path, roles: tuple[str, ...]) -> tuple[web.Application, ...]:
    values: dict[str, Any] = {
        "key_file": folder / "keys.json",
        "admin_token": TOKEN,
        "directory": "sql",
        "files_url": folder.as_uri(),
    }
    broker = build(load_settings(**values, roles=roles))
    return broker.public, broker.admin


async def document_of(application: web.Application) -> dict[str, Any]:
    async with TestClient(TestServer(application)) as http:
        document: dict[str, Any] = await (await http.get("/openapi.json")).json()
    return document


def served(application: web.Application) -> set[str]:
    return {
        f"{route.method} {route.resource.canonical}"
        for route in application.router.routes()
        if route.method in DOCUMENTED_METHODS and route.resource is not None
    }


@pytest.mark.parametrize("roles", [(), *((role,) for role in ROLES)], ids=",".join)
async def test_document_has_every_served_endpoint(tmp_path: Path, roles: tuple[str, ...]) -> None:
    for application in start_with_roles(tmp_path, roles):
        document = await document_of(application)

        schemathesis.openapi.from_dict(document).validate()
        assert names(document) == served(application) - UNDOCUMENTED


@pytest.mark.parametrize("roles", [(), *((role,) for role in ROLES)], ids=",".join)
async def test_process_serves_the_endpoints_of_its_roles(
    tmp_path: Path, roles: tuple[str, ...]
) -> None:
    public, admin = start_with_roles(tmp_path, roles)

    assert names(await document_of(public)) == names_by_role(PUBLIC, *(roles or ROLES))
    assert names(await document_of(admin)) == names_by_role(ADMIN) | {"GET /openapi.json"}


def names_by_role(*roles: str) -> set[str]:
    return {
        name_of(endpoint.method, endpoint.path)
        for endpoint in DECLARED
        if {endpoint.role, *endpoint.other_roles} & {*roles}
        and endpoint.method in DOCUMENTED_METHODS
    }


UNDOCUMENTED = {
    *("GET /socket.io/", "POST /socket.io/"),
    *("GET /tunnel", "GET /tunnel/{ticket}"),
    *("GET /tunnel/wafer", "GET /tunnel/wafer/{ticket}"),
    *("POST /mina_auth", "POST /wafer/{app}/mina_auth"),
}
"""The protocol of Engine.IO, WebSockets of tunnels, and paths without the slash at the end."""


def test_document_lists_error_words_by_status() -> None:
    document = build_document([ENDPOINTS["POST /phone/confirm"]], "a port")

    refused = document["paths"]["/phone/confirm"]["post"]["responses"]["403"]

    [_, error] = refused["content"]["application/json"]["schema"]["allOf"]
    assert sorted(error["properties"]["error"]["enum"]) == ["access_denied", "unregistered_user"]


@pytest.mark.parametrize(
    ("model", "rules"),
    [
        (AppAddRequest, FIELD_RULES),
        (UserAddRequest, USER_RULES),
        (IdentityRequest, IDENTITY_RULES),
        (InvitationRequest, {"app": "looked up", **INVITATION_RULES}),
    ],
)
def test_request_model_has_every_field_with_a_rule(
    model: type[Any], rules: Mapping[str, Any]
) -> None:
    assert get_type_hints(model).keys() == rules.keys()
