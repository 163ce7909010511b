"""Events and endpoints answer any input with an error word, and never with a 500."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.app import build
from broker.infrastructure.api.endpoint import ADMIN, FORM, JSON
from broker.infrastructure.runtime.server import Site, serve_sites
from broker.infrastructure.transport.engines import open_server
from broker.infrastructure.transport.socketio.server import SocketIOServer as Server
from broker.login.metrics import WAITING_BROWSERS
from broker.sessions.service import SessionService
from broker.settings import load_settings
from tests.support.clients import PhoneClient, PythonBrowser
from tests.support.endpoints import DECLARED, event_names
from tests.support.environment import free_port
from tests.support.error_words import WORDS
from tests.support.polling import open_polling, polling
from tests.support.waiting import eventually

T = TypeVar("T")
FUZZ = settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=50)
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
fields = st.sampled_from(
    [
        *("app", "js_code", "scene", "login_id", "secret", "client_id", "device_code"),
        *("grant_type", "id", "skey", "raw_data", "signature", "encrypted_data", "iv", "openid"),
        "invitation",
    ]
)
nearly = st.dictionaries(fields, anything | st.text("AZaz09-_.:", max_size=70), max_size=4)
payloads = anything | nearly

TOKEN = "x" * 32
POSTS = [one for one in DECLARED if one.method == "POST" and one.role != ADMIN]
PAGES = [endpoint.path for endpoint in POSTS if endpoint.response == "text/html"]
JSON_ROUTES = [
    endpoint.path.replace("{tunnel_id}", "A" * 22)
    for endpoint in POSTS
    if endpoint.request_in == JSON and endpoint.path not in PAGES and endpoint.role != "wafer"
]
"""Wafer's calls have their own format of errors, and their own tests."""

FORM_ROUTES = [endpoint.path for endpoint in POSTS if endpoint.request_in == FORM]
GET_ROUTES = [
    "/device",
    "/oauth/authorize",
    "/oauth/logout",
    "/.well-known/jwks.json",
    "/health/ready",
    "/scan-login.js",
    "/socket.io/",
]


class Loop:
    """An event loop for one test, in which hypothesis runs all its examples."""

    def __init__(self, runner: asyncio.Runner, url: str, server: Server) -> None:
        self._runner = runner
        self.url = url
        self.server = server

    def __call__(self, act: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(act)


@pytest.fixture
def run(tmp_path: Path, records_file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    servers: list[Server] = []

    def recording(engine: str, **options: Any) -> Server:
        servers.append(open_server(engine, **options))
        return servers[-1]

    monkeypatch.setattr("broker.app.open_server", recording)
    port = free_port()
    unlimited = 1_000_000
    broker = build(
        load_settings(
            port=port,
            public_url=f"http://127.0.0.1:{port}",
            key_file=tmp_path / "keys.json",
            seal_file=tmp_path / "seal.json",
            records_url=f"sqlite+aiosqlite:///{records_file}",
            admin_token=TOKEN,
            files_url=(tmp_path / "files").as_uri(),
            begins_per_minute=unlimited,
            misses_per_minute=unlimited,
            socket_packets_per_minute=unlimited,
            address_packets_per_minute=1000 * unlimited,
        )
    )
    site = Site("broker", broker.public, "127.0.0.1", port, "PORT")
    with asyncio.Runner() as runner:
        stack = contextlib.AsyncExitStack()
        addresses = runner.run(stack.enter_async_context(serve_sites([site])))
        yield Loop(runner, addresses["broker"], *servers)
        runner.run(stack.aclose())


def is_answer(status: int, answer: Any) -> bool:
    """Return whether this is a success, or an error with a known word and a description."""
    if status < 400:
        return "error" not in answer
    return (
        status in (400, 401, 403, 404, 405, 409, 429, 503)
        and answer["error"] in WORDS
        and bool(answer["error_description"])
    )


@contextlib.asynccontextmanager
async def joined(url: str, auth: object, namespace: str) -> AsyncIterator[PythonBrowser]:
    browser = PythonBrowser(["websocket"])
    await browser.connect(url, auth, namespace)
    try:
        yield browser
    finally:
        await browser.close()


def test_browser_event_answers_any_payload(run: Loop) -> None:
    @FUZZ
    @given(
        event=st.sampled_from([*event_names("/login"), "nonsense", ""]),
        arguments=st.lists(payloads, max_size=3),
    )
    def send(event: str, arguments: list[Any]) -> None:
        answer = run(browser.emit(event, *arguments))
        assert is_answer(400 if "error" in answer else 200, answer)

    context = joined(run.url, {"app": "default"}, "/login")
    browser = run(context.__aenter__())
    send()
    assert "secret" in run(browser.emit("begin", {}))
    run(context.__aexit__(None, None, None))


def test_phone_event_answers_any_payload(run: Loop) -> None:
    async def session() -> Any:
        async with PhoneClient(run.url) as phone:
            return phone.session

    @FUZZ
    @given(
        event=st.sampled_from([*event_names("/phone"), "nonsense", ""]),
        arguments=st.lists(payloads, max_size=3),
    )
    def send(event: str, arguments: list[Any]) -> None:
        answer = run(browser.emit(event, *arguments))
        assert answer["error"] in WORDS

    opened = run(session())
    context = joined(run.url, {"id": opened["id"], "skey": opened["skey"]}, "/phone")
    browser = run(context.__aenter__())
    send()
    run(context.__aexit__(None, None, None))


def test_connect_with_any_payload_is_accepted_or_refused(run: Loop) -> None:
    async def connect(namespace: str, auth: object) -> str:
        """Return the packet that answers CONNECT."""
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(run.url + "/socket.io/?EIO=4&transport=websocket") as socket,
        ):
            await socket.receive_str()
            await socket.send_str(f"40{namespace},{json.dumps(auth)}")
            return await socket.receive_str(timeout=30)

    @FUZZ
    # A number in place of the payload is not a CONNECT packet, and closes the socket.
    @given(
        namespace=st.sampled_from(["/login", "/phone"]),
        auth=payloads.filter(
            lambda auth: isinstance(auth, bool) or not isinstance(auth, float | int)
        ),
    )
    def send(namespace: str, auth: object) -> None:
        answer = run(connect(namespace, auth))
        if answer.startswith(f"44{namespace},"):
            assert json.loads(answer.partition(",")[2])["data"]["error"] in WORDS
        else:
            assert answer.startswith(f"40{namespace},")

    send()


async def exchange(method: str, url: str, **request: Any) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession() as http,
        http.request(method, url, allow_redirects=False, **request) as response,
    ):
        body = await response.read()
        if response.status < 400:
            return response.status, {}
        return response.status, json.loads(body)


def test_json_endpoint_answers_any_body(run: Loop) -> None:
    async def session() -> str:
        async with PhoneClient(run.url) as phone:
            return phone.bearer

    @FUZZ
    @given(
        path=st.sampled_from(JSON_ROUTES),
        body=payloads.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=200),
        authorised=st.booleans(),
    )
    def send(path: str, body: bytes, authorised: bool) -> None:
        shown = bearer if path.startswith("/phone") else f"Bearer {TOKEN}"
        headers = {"Authorization": shown} if authorised else {}
        assert is_answer(*run(exchange("POST", run.url + path, data=body, headers=headers)))

    bearer = run(session())
    send()


def test_form_endpoint_answers_any_body(run: Loop) -> None:
    @FUZZ
    @given(
        path=st.sampled_from(FORM_ROUTES),
        form=st.dictionaries(fields, st.text(max_size=60), max_size=5) | st.binary(max_size=200),
        kind=st.sampled_from(["application/x-www-form-urlencoded", "text/plain", "a/b; charset=x"]),
    )
    def send(path: str, form: Any, kind: str) -> None:
        request = exchange("POST", run.url + path, data=form, headers={"Content-Type": kind})
        assert is_answer(*run(request))

    send()


def test_page_answers_any_form(run: Loop) -> None:
    async def post(path: str, form: Any, kind: str) -> tuple[int, str]:
        async with (
            aiohttp.ClientSession() as http,
            http.post(run.url + path, data=form, headers={"Content-Type": kind}) as response,
        ):
            return response.status, response.content_type

    names = st.sampled_from(
        [
            *("client_id", "redirect_uri", "response_type", "request_uri", "request", "cancel"),
            *("id_token_hint", "post_logout_redirect_uri", "state", "login_id", "secret"),
        ]
    )

    @FUZZ
    @given(
        path=st.sampled_from(PAGES),
        form=st.dictionaries(names, st.text(max_size=60), max_size=5) | st.binary(max_size=200),
        kind=st.sampled_from(["application/x-www-form-urlencoded", "text/plain", "a/b; charset=x"]),
    )
    def send(path: str, form: Any, kind: str) -> None:
        status, media_type = run(post(path, form, kind))
        assert (status in (200, 400, 403), media_type) == (True, "text/html")

    send()


def test_page_answers_any_query(run: Loop) -> None:
    async def get(path: str, query: dict[str, str]) -> int:
        async with (
            aiohttp.ClientSession() as http,
            http.get(run.url + path, params=query) as response,
        ):
            return response.status

    @FUZZ
    @given(
        path=st.sampled_from(GET_ROUTES),
        query=st.dictionaries(
            st.sampled_from(
                ["user_code", "EIO", "transport", "sid", "j", "x", "client_id", "request_uri"]
            ),
            st.text(max_size=40) | st.sampled_from(["4", "polling", "websocket"]),
            max_size=4,
        ),
    )
    def send(path: str, query: dict[str, str]) -> None:
        assert run(get(path, query)) in (200, 400, 404)

    send()


def test_unexpected_error_is_answered_without_details(
    run: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(self: SessionService, app: str, js_code: str) -> None:
        raise RuntimeError("canary")

    monkeypatch.setattr(SessionService, "open", fail)
    request = exchange("POST", run.url + "/phone/session", json={"js_code": "pretend:a"})

    status, answer = run(request)

    assert (status, answer["error"]) == (503, "temporarily_unavailable")
    assert "canary" not in str(answer)


@pytest.mark.parametrize(
    ("path", "request_"),
    [
        ("/phone/session", {"json": {"js_code": "pretend:a", "more": "x" * 66_000}}),
        ("/oauth/device_authorization", {"data": {"client_id": "default", "more": "x" * 66_000}}),
    ],
)
def test_valid_fields_in_large_body_are_refused(
    run: Loop, path: str, request_: dict[str, Any]
) -> None:
    status, answer = run(exchange("POST", run.url + path, **request_))

    assert (status, answer["error"]) == (400, "invalid_request")
    assert "65536" in answer["error_description"]


@pytest.mark.parametrize("path", [*JSON_ROUTES, *FORM_ROUTES])
def test_large_body_is_refused_with_error_word(run: Loop, path: str) -> None:
    status, answer = run(exchange("POST", run.url + path, data=b"x" * 70_000))

    assert (status, answer["error"]) in [
        (400, "invalid_request"),
        (401, "invalid_session"),
        (401, "invalid_client"),
        (401, "invalid_token"),
    ]


@pytest.mark.parametrize(
    "body",
    [gzip.compress(b'{"js_code": "pretend:a"}'), b"\x1f\x8b nonsense"],
    ids=["compressed", "nonsense"],
)
def test_compressed_body_is_refused(run: Loop, body: bytes) -> None:
    request = exchange(
        "POST", run.url + "/phone/session", data=body, headers={"Content-Encoding": "gzip"}
    )

    status, answer = run(request)

    assert (status, answer["error"]) == (400, "invalid_request")


@pytest.mark.parametrize("path", [*JSON_ROUTES, *FORM_ROUTES, "/health/live"])
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_wrong_method_is_refused(run: Loop, path: str, method: str) -> None:
    if (method, path) == ("PATCH", "/tunnels/push"):
        path = "/tunnels"  # PATCH has the path of a tunnel here
    status, answer = run(exchange(method, run.url + path))

    assert (status, answer["error"]) == (405, "invalid_request")


def test_disconnected_browsers_leave_no_state(run: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    async def visit() -> None:
        async with joined(run.url, None, "/login") as browser:
            await browser.emit("begin", {})
            await browser.emit("begin", {})

    async def break_off() -> None:
        """Send two CONNECT packets after a close packet."""
        async with aiohttp.ClientSession(run.url) as http:
            path = polling(await open_polling(http))
            async with http.post(path, data="1\x1e40/login,\x1e40/phone,{}") as response:
                assert response.status in (200, 400)

    joining, left = asyncio.Event(), asyncio.Event()
    left.set()

    async def close_while_joining() -> None:
        joining.clear()
        left.clear()
        async with aiohttp.ClientSession(run.url) as http, asyncio.TaskGroup() as posts:
            sid = await open_polling(http)

            async def post(packet: str) -> None:
                async with http.post(polling(sid), data=packet) as response:
                    assert response.status in (200, 400)

            posts.create_task(post("40/login,"))
            await joining.wait()
            posts.create_task(post("1"))
            await eventually(lambda: has_ended(run.server, sid))
            left.set()

    trigger = Server._trigger_event

    async def slow(self: Server, event: str, *arguments: Any) -> Any:
        if event == "connect":
            joining.set()
            await left.wait()
        return await trigger(self, event, *arguments)

    monkeypatch.setattr(Server, "_trigger_event", slow)

    def counts() -> object:
        server = run.server
        manager = server.manager
        joined = {n: len(list(manager.get_participants(n, None))) for n in manager.get_namespaces()}
        return WAITING_BROWSERS.value, joined, len(server.environ)

    run(visit())
    run(eventually(lambda: not run.server.environ))
    before = counts()
    for _ in range(20):
        run(visit())
        run(break_off())
        run(close_while_joining())

    run(eventually(lambda: counts() == before))


def has_ended(server: Server, sid: str) -> bool:
    session = server.eio.sockets.get(sid)
    return session is None or session.closed
