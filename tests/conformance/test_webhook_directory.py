"""Tests of the webhook directory: requests, answers, failures, targets and secrets."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from broker.directories import webhook as http_directory
from broker.directories.webhook import WebhookDirectory
from broker.identity.errors import DirectoryUnavailable, UnregisteredUser, UserBlocked
from broker.identity.model import Identity, UserProfile
from broker.infrastructure.outbound.circuit_breaker import (
    FAILURE_THRESHOLD,
    RESET_TIMEOUT,
    SUCCESS_THRESHOLD,
)
from broker.infrastructure.outbound.settings import check_signing_secret
from broker.infrastructure.outbound.webhook import RESPONSE_MAX_BYTES, sign
from broker.settings import load_settings
from tests.support.builders import RunningBroker, StartBroker
from tests.support.clients import PhoneClient
from tests.support.environment import ROOT, free_port
from tests.support.leaks import fetch, leaked, process
from tests.support.logins import new_login
from tests.support.loop_clock import LoopClock
from tests.support.waiting import eventually
from tests.support.webhook import (
    HOST,
    OTHER_SECRET,
    SECRET,
    Answer,
    Names,
    Served,
    found,
    serving_site,
)

PAGE = ROOT / "docs" / "users.md"
ALICE = Identity("wechat", "canary-openid", "canary-unionid", "wx0123456789abcdef")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving_site(tmp_path) as server:
        yield server


@pytest.fixture
async def directory(server: Served) -> AsyncIterator[WebhookDirectory]:
    # The library that verifies signatures uses the system clock.
    async with server.directory(clock=time.time) as directory:
        yield directory


@pytest.fixture
def short_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.directories.webhook.TOTAL_TIMEOUT", 0.3)


def answers(status: int, content: bytes | str, media_type: str = "application/json") -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        body = content.encode() if isinstance(content, str) else content
        return web.Response(status=status, body=body, content_type=media_type)

    return answer


def answer_count(outcome: str) -> float:
    return REGISTRY.get_sample_value("scanlogin_directory_answers_total", {"outcome": outcome}) or 0


async def reason(directory: WebhookDirectory, identity: Identity = ALICE) -> str:
    """Return the reason why the directory is unavailable for `identity`."""
    with pytest.raises(DirectoryUnavailable) as failed:
        await directory.find(identity)
    assert failed.value.body()["retry_after"] == 2
    return failed.value.reason


# --- requests and answers


async def test_request_is_signed_and_has_the_identity(
    server: Served, directory: WebhookDirectory
) -> None:
    assert (await directory.find(ALICE)).subject == "user-7"

    [(headers, fields)] = server.site.questions
    assert fields["type"] == "identity.find"
    assert fields["data"] == {
        "provider": "wechat",
        "provider_app_id": "wx0123456789abcdef",
        "openid": "canary-openid",
        "unionid": "canary-unionid",
    }
    assert headers["webhook-id"].startswith("msg_")
    assert headers["Host"] == f"{HOST}:{server.port}"


@pytest.mark.parametrize("order", [[SECRET, OTHER_SECRET], [OTHER_SECRET, SECRET]])
async def test_request_is_signed_with_both_secrets_during_rotation(
    server: Served, order: list[str]
) -> None:
    async with server.directory(clock=time.time, signing_secrets=order) as directory:
        assert (await directory.find(ALICE)).subject == "user-7"


async def test_site_refuses_a_request_with_wrong_signature(
    server: Served,
) -> None:
    async with server.directory(clock=time.time, signing_secrets=[OTHER_SECRET]) as directory:
        assert await reason(directory) == "status 500"
    assert server.site.questions == []


async def test_claims_of_the_answer_are_returned(
    server: Served, directory: WebhookDirectory
) -> None:
    server.site.answer = answers(
        200,
        '{"subject": "user-7", "email": "alice@site.example", "email_verified": true,'
        ' "groups": ["staff"], "other": 1}',
    )

    assert await directory.find(ALICE) == UserProfile(
        subject="user-7", email="alice@site.example", email_verified=True, groups=("staff",)
    )


async def test_malformed_claim_is_dropped_and_named(
    server: Served, directory: WebhookDirectory
) -> None:
    server.site.answer = answers(
        200,
        '{"subject": "user-7", "name": "Alice", "email": "canary", "email_verified": "canary",'
        ' "groups": "canary", "picture": "javascript:canary"}',
    )

    with capture_logs() as logs:
        profile = await directory.find(ALICE)

    assert profile == UserProfile(subject="user-7", name="Alice")
    [event] = logs
    assert event["event"] == "invalid claims ignored"
    assert sorted(event["claims"]) == ["email", "email_verified", "groups", "picture"]
    assert "canary" not in str(logs)


@pytest.mark.parametrize(("status", "kind"), [(404, UnregisteredUser), (403, UserBlocked)])
async def test_refusal_of_the_site_has_its_error(
    server: Served, directory: WebhookDirectory, status: int, kind: type[Exception]
) -> None:
    server.site.answer = answers(status, "{}")
    with capture_logs() as logs, pytest.raises(kind):
        await directory.find(ALICE)
    assert logs == []


@pytest.mark.parametrize("subject", ["x", "!" * 255, "wechat:o_-6", "alice@site.example"])
async def test_subject_is_used_unchanged(
    server: Served, directory: WebhookDirectory, subject: str
) -> None:
    server.site.answer = answers(200, f'{{"subject": "{subject}", "more": [1]}}')
    assert (await directory.find(ALICE)).subject == subject


INVALID_ANSWERS: dict[str, tuple[Answer, str]] = {
    "500": (answers(500, "{}"), "status 500"),
    "503": (answers(503, "{}"), "status 503"),
    "201": (answers(201, '{"subject": "x"}'), "status 201"),
    "410": (answers(410, "{}"), "status 410"),
    "page": (answers(200, "<html>", "text/html"), "status 200 without a JSON object"),
    "page-404": (answers(404, "<html>", "text/html"), "status 404 without a JSON object"),
    "page-403": (answers(403, "", "text/html"), "status 403 without a JSON object"),
    "list": (answers(200, "[]"), "status 200 without a JSON object"),
    "deep": (answers(200, "[" * 9_000), "status 200 without a JSON object"),
    "bytes": (answers(200, b"\xff\xfe"), "status 200 without a JSON object"),
    "cut": (answers(200, '{"subject": "x'), "status 200 without a JSON object"),
    "huge": (answers(200, "{" + " " * RESPONSE_MAX_BYTES + "}"), "response too large: over 16 KB"),
    **{
        f"subject-{name}": (answers(200, body), "invalid subject")
        for name, body in {
            "missing": "{}",
            "number": '{"subject": 7}',
            "null": '{"subject": null}',
            "list": '{"subject": ["x"]}',
            "empty": '{"subject": ""}',
            "long": f'{{"subject": "{"x" * 256}"}}',
            "spaced": '{"subject": "a b"}',
            "newline": '{"subject": "a\\n"}',
            "foreign": '{"subject": "ä"}',
        }.items()
    },
}


@pytest.mark.parametrize(("answer", "expected"), INVALID_ANSWERS.values(), ids=INVALID_ANSWERS)
async def test_invalid_answer_makes_the_directory_unavailable(
    server: Served, directory: WebhookDirectory, answer: Answer, expected: str
) -> None:
    server.site.answer = answer
    before = answer_count("failed")

    assert (await reason(directory)).startswith(expected)

    assert len(server.site.questions) == 1
    assert answer_count("failed") == before + 1


async def test_redirect_is_not_followed(server: Served, directory: WebhookDirectory) -> None:
    async def redirect(request: web.Request) -> web.StreamResponse:
        raise web.HTTPTemporaryRedirect("/hook")

    server.site.answer = redirect

    assert await reason(directory) == "status 307"
    assert len(server.site.questions) == 1


async def test_cookie_is_not_stored(server: Served, directory: WebhookDirectory) -> None:
    async def set_cookie(request: web.Request) -> web.StreamResponse:
        response = web.json_response({"subject": "user-7"})
        response.set_cookie("person", "alice")
        return response

    server.site.answer = set_cookie
    for _ in range(2):
        await directory.find(ALICE)

    assert all("Cookie" not in headers for headers, _ in server.site.questions)


# --- failures


async def test_slow_site_causes_a_timeout(
    server: Served, directory: WebhookDirectory, short_timeout: None
) -> None:
    async def slow(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        return await found(request)

    server.site.answer = slow

    assert (await reason(directory)).startswith("no answer within")


async def test_slow_response_body_causes_a_timeout(
    server: Served, directory: WebhookDirectory, loop_clock: LoopClock
) -> None:
    async def trickle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(100):
            await response.write(b" ")
            await loop_clock.move(http_directory.TOTAL_TIMEOUT / 10)
        return response

    server.site.answer = trickle

    assert (await reason(directory)).startswith("no answer within")


def broken_connections(times: int) -> Answer:
    """Return an answer that aborts the connection during its first uses."""
    left = times

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal left
        left -= 1
        if left < 0:
            return await found(request)
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b'{"subject"')
        assert request.transport is not None
        request.transport.abort()
        return response

    return answer


async def test_lost_connection_is_retried_with_the_same_id(
    server: Served, directory: WebhookDirectory
) -> None:
    server.site.answer = broken_connections(1)

    assert (await directory.find(ALICE)).subject == "user-7"

    first, second = server.site.questions
    assert first[0]["webhook-id"] == second[0]["webhook-id"]


async def test_lost_connection_is_retried_only_once(
    server: Served, directory: WebhookDirectory
) -> None:
    server.site.answer = broken_connections(9)

    assert (await reason(directory)).startswith("connection lost")
    assert len(server.site.questions) == 2


async def test_unreachable_site_is_reported(server: Served) -> None:
    async with server.directory(url=f"https://{HOST}:1/hook") as directory:
        assert "Cannot connect to host site.example:1" in await reason(directory)


async def test_failing_site_is_not_called_for_a_while(
    server: Served, directory: WebhookDirectory
) -> None:
    server.site.answer = answers(500, "")
    for number in range(FAILURE_THRESHOLD):
        await reason(directory, replace(ALICE, id=str(number)))

    with pytest.raises(DirectoryUnavailable) as paused:
        await directory.find(ALICE)

    assert paused.value.retry_after == RESET_TIMEOUT
    assert len(server.site.questions) == FAILURE_THRESHOLD


async def test_outage_and_recovery_are_logged_once(
    server: Served, directory: WebhookDirectory
) -> None:
    with capture_logs() as logs:
        server.site.answer = answers(502, "<html>canary</html>", "text/html")
        for _ in range(FAILURE_THRESHOLD - 1):
            await reason(directory)
        server.site.answer = found
        for _ in range(SUCCESS_THRESHOLD + 1):
            await directory.find(ALICE)

    assert [(log["event"], log.get("reason")) for log in logs] == [
        ("directory unavailable", "status 502"),
        ("directory recovered", None),
    ]
    assert "canary" not in str(logs)


async def test_intermittent_failures_are_one_outage(
    server: Served, directory: WebhookDirectory
) -> None:
    with capture_logs() as logs:
        for _ in range(4):
            server.site.answer = answers(500, "")
            await reason(directory)
            server.site.answer = found
            await directory.find(ALICE)

    assert [log["event"] for log in logs] == ["directory unavailable"]


# --- targets


async def test_site_with_invalid_certificate_is_not_called(server: Served) -> None:
    async with server.directory(url=f"https://other.example:{server.port}/hook") as directory:
        assert "certificate" in (await reason(directory)).lower()
    async with server.directory(tls=ssl.create_default_context()) as directory:
        assert "certificate" in (await reason(directory)).lower()
    assert server.site.questions == []


@pytest.mark.parametrize("addresses", ["127.0.0.1", "10.0.0.1 127.0.0.1", "169.254.169.254"])
async def test_name_with_a_private_address_is_not_called(server: Served, addresses: str) -> None:
    """The name is resolved once. The check applies to the address of the socket."""
    names = Names(site=addresses)
    async with server.directory(
        allow_private_address=False, resolver=names, clock=time.time
    ) as directory:
        assert "is not a public address" in await reason(directory)

    assert names.asked == [HOST]
    assert server.site.questions == []


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"])
async def test_private_address_is_not_called(server: Served, host: str) -> None:
    url = f"https://{host}:{server.port}/hook"
    async with server.directory(allow_private_address=False, url=url) as directory:
        assert "is not a public address" in await reason(directory)
    assert server.site.questions == []


async def test_proxy_in_the_environment_is_ignored(
    server: Served, directory: WebhookDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    assert (await directory.find(ALICE)).subject == "user-7"


# --- secrets


@pytest.mark.parametrize(
    "text",
    [
        *("", "whsec_", "Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5", "whsec_canary", "whsec_!!!!"),
        *("whsec_Y2FuYXJ5LWNhbmFyeQ==", f"whsec_{'A' * 88}"),
    ],
)
def test_invalid_secret_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="use whsec_ and 24 to 64 bytes") as refused:
        check_signing_secret(text)
    assert "canary" not in str(refused.value)


def test_timestamp_is_the_given_time() -> None:
    headers = sign([SECRET], type="identity.find", data={}, now=1_000_000.9).headers

    assert headers["webhook-timestamp"] == "1000000"


# --- the example in the docs


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@asynccontextmanager
async def documented_webhook(folder: Path, port: int) -> AsyncIterator[None]:
    """Run the example of docs/users.md unchanged."""
    [program] = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (folder / "hook.py").write_text(program)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "hook.py"),
        cwd=folder,
        env={**os.environ, "SCAN_LOGIN_DIRECTORY_SECRET": SECRET, "PORT": str(port)},
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        await eventually(lambda: is_listening(port))
        yield
    finally:
        process.terminate()
        await process.wait()


async def test_documented_webhook_returns_the_documented_results(
    tmp_path: Path, start_broker: StartBroker
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/hook"
    settings = {"directory_private": True, "directory_secret": SECRET}
    async with documented_webhook(tmp_path, port), aiohttp.ClientSession() as http:
        broker = await start_broker(url, **settings)
        results = {}
        for name in ("alice", "bob", "mallory"):
            async with new_login(broker) as login, PhoneClient(broker.url, name) as phone:
                await phone.post("scan", {"scene": login.scene})
                answer = await phone.post("confirm", login.named)
                results[name] = answer.body.get("error") or await login.subject()
                events = [await login.heard() for _ in range(2)]
                results[f"{name}'s browser"] = events[1][0]
        async with http.post(url, json={"data": {"openid": "alice"}}) as unsigned:
            assert unsigned.status == 401

    assert results == {
        "alice": "user-1",
        "alice's browser": "login-confirmed",
        "bob": "unregistered_user",
        "bob's browser": "login-unregistered",
        "mallory": "access_denied",
        "mallory's browser": "login-denied",
    }


async def test_failing_site_reveals_no_secret_and_no_id(tmp_path: Path) -> None:
    settings = {
        "DIRECTORY": f"http://127.0.0.1:{free_port()}/canary-path",
        "DIRECTORY_PRIVATE": "true",
        "DIRECTORY_SECRET": SECRET,
    }
    async with (
        process("one", "memory://", tmp_path, **settings) as broker,
        aiohttp.ClientSession() as http,
    ):
        running = RunningBroker(broker.url, load_settings(), broker.url)
        async with new_login(running) as login, PhoneClient(broker.url, "canary-openid") as phone:
            await phone.post("scan", {"scene": login.scene})
            answer = await phone.post("confirm", login.named)
        metrics = await fetch(http, f"{broker.metrics_url}/metrics")

    assert (answer.status, answer.body["error"]) == (503, "temporarily_unavailable")
    assert answer.headers["Retry-After"] == "2"
    log = broker.log.read_text()
    assert "directory unavailable" in log
    assert "Cannot connect to host 127.0.0.1" in log
    assert 'scanlogin_directory_answers_total{outcome="failed"} 1.0' in metrics
    for output in (log, metrics, str(answer.body)):
        assert not leaked([SECRET, SECRET[6:], "canary-path", "canary-openid"], output)
