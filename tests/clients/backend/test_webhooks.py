"""Webhooks of the broker, parsed by the packages of both languages."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Mapping

import pytest
import pytest_asyncio

from broker.infrastructure.outbound.webhook import SignedRequest, sign, sign_body
from tests.support.client_driver import Driver, running
from tests.support.environment import ROOT
from tests.support.webhook import OTHER_SECRET, SECRET

pytestmark = pytest.mark.asyncio(loop_scope="module")

REPORT = {"login_id": "q2Yc", "subject": "user-7", "app": "shop", "at": 1795780800}
WINDOW = 300

Answer = dict[str, object]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["Python", "Node"])
async def driver(request: pytest.FixtureRequest) -> AsyncIterator[Driver]:
    folder = request.getfixturevalue(f"{request.param.lower()}_folder")
    async with running(request.param, folder) as driver:
        yield driver


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def _new_webhook(driver: Driver) -> None:
    await driver.send(make="Webhook", secrets=[OTHER_SECRET, SECRET])


async def parsed(driver: Driver, request: SignedRequest, **headers: str | None) -> Answer:
    """Return the answer to a request with changed headers; None removes one."""
    sent = {**request.headers, **headers}
    given = {name: value for name, value in sent.items() if value is not None}
    body = request.body.decode()
    answer: Answer = await driver.send(do="parse", headers=given, body=body)
    return answer


def report(secret: str = SECRET, **options: object) -> SignedRequest:
    given = {"now": time.time(), **options}
    return sign([secret], type="login.reported", data=REPORT, **given)  # type: ignore[arg-type]


def documented_events() -> list[Mapping[str, object]]:
    """The examples of events in the documentation."""
    pages = [page.read_text() for page in sorted((ROOT / "docs").glob("*.md"))]
    blocks = [
        block for page in pages for block in re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    ]
    return [json.loads(block) for block in blocks if re.match(r'\{"type": "\w+\.\w+"', block)]


@pytest.mark.parametrize("secret", [SECRET, OTHER_SECRET])
async def test_signed_event_is_parsed(driver: Driver, secret: str) -> None:
    answer = await parsed(driver, report(secret, message_id="msg_1"))

    assert answer["repeat"] is False
    event = answer["done"]
    assert isinstance(event, dict)
    assert event.pop("timestamp").startswith("20")
    assert event == {"webhook_id": "msg_1", "type": "login.reported", **REPORT}


@pytest.mark.parametrize("example", documented_events(), ids=lambda example: example["type"])
async def test_documented_event_is_parsed(driver: Driver, example: Mapping[str, object]) -> None:
    request = sign_body([SECRET], json.dumps(example).encode(), now=time.time())

    answer = await parsed(driver, request)

    assert isinstance(answer["done"], dict)
    data = example["data"]
    assert isinstance(data, dict)
    assert {name: answer["done"][name] for name in data} == data
    assert answer["done"]["type"] == example["type"]


async def test_unknown_event_keeps_its_data(driver: Driver) -> None:
    request = sign([SECRET], type="moon.full", data={"size": 1}, now=time.time())

    answer = await parsed(driver, request)

    assert isinstance(answer["done"], dict)
    assert answer["done"]["type"] == "moon.full"
    assert answer["done"].get("data", answer["done"])["size"] == 1


async def test_header_names_match_in_any_case(driver: Driver) -> None:
    request = report()

    headers = {name.title(): value for name, value in request.headers.items()}
    answer = await parsed(driver, SignedRequest(request.body, headers))

    assert "done" in answer


async def test_repeat_is_recognised_by_its_id(driver: Driver) -> None:
    first = report(message_id="msg_1")
    later = report(message_id="msg_1", now=time.time() + 10)
    other = report(message_id="msg_2")

    answers = [await parsed(driver, one) for one in (first, first, later, other)]

    assert [answer["repeat"] for answer in answers] == [False, True, True, False]


@pytest.mark.parametrize("seconds", [-WINDOW - 5, WINDOW + 60])
async def test_event_outside_the_window_is_refused(driver: Driver, seconds: int) -> None:
    answer = await parsed(driver, report(now=time.time() + seconds))

    assert (answer["error"], answer["status"]) == ("InvalidWebhook", 401)


@pytest.mark.parametrize(
    "headers",
    [
        {"webhook-id": "msg_2"},
        {"webhook-id": None},
        {"webhook-timestamp": "1700000000"},
        {"webhook-timestamp": "now"},
        {"webhook-timestamp": "1e999"},
        {"webhook-timestamp": None},
        {"webhook-signature": ""},
        {"webhook-signature": "v1"},
        {"webhook-signature": "v1,%%%"},
        {"webhook-signature": "v1,\u00e9"},
        {"webhook-signature": "v2,AAAA"},
        {"webhook-signature": None},
    ],
    ids=str,
)
async def test_altered_headers_are_refused(driver: Driver, headers: dict[str, str | None]) -> None:
    answer = await parsed(driver, report(message_id="msg_1"), **headers)

    assert answer["error"] == "InvalidWebhook"


@pytest.mark.parametrize("body", [b"", b"{}", b"[" * 50_000, b"x" * 600_000])
async def test_altered_body_is_refused(driver: Driver, body: bytes) -> None:
    answer = await parsed(driver, SignedRequest(body, report().headers))

    assert answer["error"] == "InvalidWebhook"


@pytest.mark.parametrize(
    "body",
    [
        *(b"7", b"null", b"[]", b"{}", b"x"),
        b'{"type": 1, "timestamp": "", "data": {}}',
        b'{"type": "x", "timestamp": "", "data": []}',
    ],
)
async def test_signed_body_of_another_form_is_refused(driver: Driver, body: bytes) -> None:
    answer = await parsed(driver, sign_body([SECRET], body, now=time.time()))

    assert answer["error"] == "InvalidWebhook"


async def test_event_of_another_secret_is_refused(driver: Driver) -> None:
    stranger = "whsec_c3RyYW5nZXItc3RyYW5nZXItc3RyYW5nZXI="

    answer = await parsed(driver, report(stranger))

    assert answer["error"] == "InvalidWebhook"
