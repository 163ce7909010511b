"""The directory that asks a site's webhook: what it asks, what it believes, what it survives."""

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
from broker.directories.settings import check_signing_secret
from broker.directories.webhook import RESPONSE_MAX_BYTES, WebhookDirectory
from broker.identity.errors import DirectoryUnavailable, UnregisteredUser, UserBlocked
from broker.identity.model import Identity
from broker.infrastructure.outbound.circuit_breaker import (
    FAILURE_THRESHOLD,
    RESET_TIMEOUT,
    SUCCESS_THRESHOLD,
)
from broker.settings import load_settings
from tests.support.builders import Clock, RunningBroker, StartBroker
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
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving_site(tmp_path) as served:
        yield served


@pytest.fixture
async def directory(served: Served) -> AsyncIterator[WebhookDirectory]:
    # The library that checks signatures goes by the system's clock.
    async with served.directory(clock=time.time) as directory:
        yield directory


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.directories.webhook.TOTAL_TIMEOUT", 0.3)


def answers(status: int, content: bytes | str, media_type: str = "application/json") -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        body = content.encode() if isinstance(content, str) else content
        return web.Response(status=status, body=body, content_type=media_type)

    return answer


def counted(outcome: str) -> float:
    return REGISTRY.get_sample_value("scanlogin_directory_answers_total", {"outcome": outcome}) or 0


async def reason(directory: WebhookDirectory, identity: Identity = ALICE) -> str:
    """Return why the directory cannot say who `identity` is."""
    with pytest.raises(DirectoryUnavailable) as failed:
        await directory.find(identity)
    assert failed.value.body()["retry_after"] == 2
    return failed.value.reason


# --- what it asks, and what it believes


async def test_a_question_is_signed_and_says_who_is_meant(
    served: Served, directory: WebhookDirectory
) -> None:
    assert await directory.find(ALICE) == "user-7"

    [(headers, fields)] = served.site.questions
    assert fields["type"] == "identity.find"
    assert fields["data"] == {
        "provider": "wechat",
        "provider_app_id": "wx0123456789abcdef",
        "openid": "canary-openid",
        "unionid": "canary-unionid",
    }
    assert headers["webhook-id"].startswith("msg_")
    assert headers["Host"] == f"{HOST}:{served.port}"


@pytest.mark.parametrize("order", [[SECRET, OTHER_SECRET], [OTHER_SECRET, SECRET]])
async def test_while_a_secret_is_exchanged_both_sign(served: Served, order: list[str]) -> None:
    async with served.directory(clock=time.time, signing_secrets=order) as directory:
        assert await directory.find(ALICE) == "user-7"


async def test_a_question_that_another_secret_signed_is_refused_by_the_site(
    served: Served,
) -> None:
    async with served.directory(clock=time.time, signing_secrets=[OTHER_SECRET]) as directory:
        assert await reason(directory) == "status 500"
    assert served.site.questions == []


@pytest.mark.parametrize(("status", "kind"), [(404, UnregisteredUser), (403, UserBlocked)])
async def test_the_site_says_who_is_unknown_and_who_is_let_in_no_more(
    served: Served, directory: WebhookDirectory, status: int, kind: type[Exception]
) -> None:
    served.site.answer = answers(status, "{}")
    with capture_logs() as logs, pytest.raises(kind):
        await directory.find(ALICE)
    assert logs == []


@pytest.mark.parametrize("subject", ["x", "!" * 255, "wechat:o_-6", "alice@site.example"])
async def test_a_subject_is_taken_as_it_is(
    served: Served, directory: WebhookDirectory, subject: str
) -> None:
    served.site.answer = answers(200, f'{{"subject": "{subject}", "more": [1]}}')
    assert await directory.find(ALICE) == subject


NO_ANSWERS: dict[str, tuple[Answer, str]] = {
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


@pytest.mark.parametrize(("answer", "expected"), NO_ANSWERS.values(), ids=NO_ANSWERS)
async def test_what_is_no_answer_of_the_sites_says_nothing_of_anybody(
    served: Served, directory: WebhookDirectory, answer: Answer, expected: str
) -> None:
    served.site.answer = answer
    before = counted("failed")

    assert (await reason(directory)).startswith(expected)

    assert len(served.site.questions) == 1
    assert counted("failed") == before + 1


async def test_a_redirect_is_not_followed(served: Served, directory: WebhookDirectory) -> None:
    async def away(request: web.Request) -> web.StreamResponse:
        raise web.HTTPTemporaryRedirect("/hook")

    served.site.answer = away

    assert await reason(directory) == "status 307"
    assert len(served.site.questions) == 1


async def test_no_cookie_is_kept(served: Served, directory: WebhookDirectory) -> None:
    async def sweet(request: web.Request) -> web.StreamResponse:
        response = web.json_response({"subject": "user-7"})
        response.set_cookie("person", "alice")
        return response

    served.site.answer = sweet
    for _ in range(2):
        await directory.find(ALICE)

    assert all("Cookie" not in headers for headers, _ in served.site.questions)


# --- what it survives


async def test_a_site_that_is_slow_is_not_waited_for(
    served: Served, directory: WebhookDirectory, hasty: None
) -> None:
    async def slow(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        return await found(request)

    served.site.answer = slow

    assert (await reason(directory)).startswith("no answer within")


async def test_an_answer_that_trickles_is_not_waited_for(
    served: Served, directory: WebhookDirectory, loop_clock: LoopClock
) -> None:
    async def trickle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(100):
            await response.write(b" ")
            await loop_clock.move(http_directory.TOTAL_TIMEOUT / 10)
        return response

    served.site.answer = trickle

    assert (await reason(directory)).startswith("no answer within")


def breaks(times: int) -> Answer:
    """Breaks the connection in the middle of the first answers."""
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


async def test_a_connection_that_breaks_is_tried_once_more(
    served: Served, directory: WebhookDirectory
) -> None:
    served.site.answer = breaks(1)

    assert await directory.find(ALICE) == "user-7"

    first, second = served.site.questions
    assert first[0]["webhook-id"] == second[0]["webhook-id"]


async def test_and_no_more_than_once(served: Served, directory: WebhookDirectory) -> None:
    served.site.answer = breaks(9)

    assert (await reason(directory)).startswith("connection lost")
    assert len(served.site.questions) == 2


async def test_a_site_that_is_down_is_said_to_be(served: Served) -> None:
    async with served.directory(url=f"https://{HOST}:1/hook") as directory:
        assert "Cannot connect to host site.example:1" in await reason(directory)


async def test_failing_site_is_not_asked_for_a_while(
    served: Served, directory: WebhookDirectory
) -> None:
    served.site.answer = answers(500, "")
    for number in range(FAILURE_THRESHOLD):
        await reason(directory, replace(ALICE, id=str(number)))

    with pytest.raises(DirectoryUnavailable) as paused:
        await directory.find(ALICE)

    assert paused.value.retry_after == RESET_TIMEOUT
    assert len(served.site.questions) == FAILURE_THRESHOLD


async def test_an_outage_is_logged_once_with_its_reason_and_so_is_its_end(
    served: Served, directory: WebhookDirectory
) -> None:
    with capture_logs() as logs:
        served.site.answer = answers(502, "<html>canary</html>", "text/html")
        for _ in range(FAILURE_THRESHOLD - 1):
            await reason(directory)
        served.site.answer = found
        for _ in range(SUCCESS_THRESHOLD + 1):
            await directory.find(ALICE)

    assert [(log["event"], log.get("reason")) for log in logs] == [
        ("directory unavailable", "status 502"),
        ("directory recovered", None),
    ]
    assert "canary" not in str(logs)


async def test_site_that_answers_now_and_then_is_one_outage(
    served: Served, directory: WebhookDirectory
) -> None:
    with capture_logs() as logs:
        for _ in range(4):
            served.site.answer = answers(500, "")
            await reason(directory)
            served.site.answer = found
            await directory.find(ALICE)

    assert [log["event"] for log in logs] == ["directory unavailable"]


# --- whom it asks


async def test_a_site_with_another_ones_certificate_is_not_asked(served: Served) -> None:
    async with served.directory(url=f"https://other.example:{served.port}/hook") as directory:
        assert "certificate" in (await reason(directory)).lower()
    async with served.directory(tls=ssl.create_default_context()) as directory:
        assert "certificate" in (await reason(directory)).lower()
    assert served.site.questions == []


@pytest.mark.parametrize("addresses", ["127.0.0.1", "10.0.0.1 127.0.0.1", "169.254.169.254"])
async def test_a_name_that_means_a_private_address_is_not_asked(
    served: Served, addresses: str
) -> None:
    """The name is looked up once: what is looked at is the address of the very socket."""
    names = Names(site=addresses)
    async with served.directory(
        allow_private_address=False, resolver=names, clock=time.time
    ) as directory:
        assert "is not a public address" in await reason(directory)

    assert names.asked == [HOST]
    assert served.site.questions == []


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"])
async def test_a_number_that_is_private_is_not_asked(served: Served, host: str) -> None:
    url = f"https://{host}:{served.port}/hook"
    async with served.directory(allow_private_address=False, url=url) as directory:
        assert "is not a public address" in await reason(directory)
    assert served.site.questions == []


async def test_a_proxy_of_the_environment_is_not_asked(
    served: Served, directory: WebhookDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    assert await directory.find(ALICE) == "user-7"


# --- its secrets


@pytest.mark.parametrize(
    "text",
    [
        *("", "whsec_", "Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5", "whsec_canary", "whsec_!!!!"),
        *("whsec_Y2FuYXJ5LWNhbmFyeQ==", f"whsec_{'A' * 88}"),
    ],
)
def test_a_secret_that_is_none_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="use whsec_ and 24 to 64 bytes") as refused:
        check_signing_secret(text)
    assert "canary" not in str(refused.value)


async def test_the_time_of_a_question_is_the_brokers(served: Served, clock: Clock) -> None:
    async with served.directory(clock=clock) as directory:
        headers = directory._sign(ALICE).headers
    assert headers["webhook-timestamp"] == str(int(clock()))


# --- the docs' own example


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@asynccontextmanager
async def the_docs_webhook(folder: Path, port: int) -> AsyncIterator[None]:
    """The example of docs/users.md, run as it stands there."""
    [program] = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (folder / "hook.py").write_text(program)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "hook.py"),
        cwd=folder,
        env={**os.environ, "SCAN_LOGIN_DIRECTORY_SECRET": SECRET, "PORT": str(port)},
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        await eventually(lambda: listens(port))
        yield
    finally:
        process.terminate()
        await process.wait()


async def test_the_webhook_in_the_docs_does_what_they_say(
    tmp_path: Path, start_broker: StartBroker
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/hook"
    settings = {"directory_private": True, "directory_secret": SECRET}
    async with the_docs_webhook(tmp_path, port), aiohttp.ClientSession() as http:
        broker = await start_broker(url, **settings)
        said = {}
        for name in ("alice", "bob", "mallory"):
            async with new_login(broker) as login, PhoneClient(broker.url, name) as phone:
                await phone.post("scan", {"scene": login.scene})
                answer = await phone.post("confirm", login.named)
                said[name] = answer.body.get("error") or await login.subject()
                heard = [await login.heard() for _ in range(2)]
                said[f"{name}'s browser"] = heard[1][0]
        async with http.post(url, json={"data": {"openid": "alice"}}) as unsigned:
            assert unsigned.status == 401

    assert said == {
        "alice": "user-1",
        "alice's browser": "login-confirmed",
        "bob": "unregistered_user",
        "bob's browser": "login-unregistered",
        "mallory": "access_denied",
        "mallory's browser": "login-denied",
    }


async def test_no_secret_and_nobodys_id_gets_out_when_the_site_fails(tmp_path: Path) -> None:
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
    for said in (log, metrics, str(answer.body)):
        assert not leaked([SECRET, SECRET[6:], "canary-path", "canary-openid"], said)
