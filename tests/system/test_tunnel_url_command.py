"""`scan-login app set --tunnel-url` asks the backend for an answer, and prints it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from broker.infrastructure.settings_sources import PREFIX
from tests.support.commands import Call
from tests.support.environment import free_port


class Handler(BaseHTTPRequestHandler):
    """Answers a challenge."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = json.dumps({"challenge": body["data"]["challenge"]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def backend() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def _private_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}WEBHOOKS_PRIVATE", "true")


def test_tunnel_url_that_answers_is_reported(call: Call, backend: str) -> None:
    call("app", "add", "site")
    call("app", "rotate-webhook-secret", "site")

    changed = call("app", "set", "site", "--tunnel-url", backend)

    assert changed.code == 0
    assert f"{backend} has answered tunnel.verify" in changed.text


def test_tunnel_url_without_backend_is_stored_and_reported(call: Call) -> None:
    url = f"http://127.0.0.1:{free_port()}/hook"
    call("app", "add", "site")
    call("app", "rotate-webhook-secret", "site")

    changed = call("app", "set", "site", "--tunnel-url", url)

    assert changed.code == 0
    assert f"{url} gets no callbacks yet" in changed.text
    assert json.loads(call("app", "list", "--json").text)[0]["tunnel_url"] == url


def test_tunnel_url_without_secret_is_reported(call: Call, backend: str) -> None:
    call("app", "add", "site")

    changed = call("app", "set", "site", "--tunnel-url", backend)

    assert "scan-login app rotate-webhook-secret site" in changed.text
