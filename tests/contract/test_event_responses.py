"""The acknowledgements of Socket.IO events match the declared response models."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from pydantic import TypeAdapter

from tests.support.builders import RunningBroker, StartBroker
from tests.support.chat import chatting
from tests.support.clients import Payload, PhoneClient, PythonBrowser, SocketPhone
from tests.support.endpoints import EVENTS

RESPONSES = {(event.namespace, event.name): TypeAdapter(event.response) for event in EVENTS}


@pytest.fixture
async def browser(broker: RunningBroker) -> AsyncIterator[PythonBrowser]:
    browser = PythonBrowser(["websocket"])
    await browser.connect(broker.url)
    yield browser
    await browser.close()


@pytest.fixture
async def phone(broker: RunningBroker) -> AsyncIterator[SocketPhone]:
    async with PhoneClient(broker.url) as client:
        phone = SocketPhone(PythonBrowser(["websocket"]))
        await phone.connect(broker.url, client.session)
        yield phone
        await phone.close()


async def send(browser: PythonBrowser, event: str, body: Payload) -> Payload:
    answer: Payload = await browser.emit(event, body)
    RESPONSES["/login", event].validate_python(answer)
    return answer


async def act(phone: SocketPhone, event: str, body: Payload) -> None:
    answer = await phone.post(event, body)
    RESPONSES["/phone", event].validate_python(answer.body)


async def test_acks_of_a_confirmed_login_match_models(
    browser: PythonBrowser, phone: SocketPhone
) -> None:
    login = await send(browser, "begin", {})
    proof = {"login_id": login["login_id"], "secret": login["secret"]}

    await act(phone, "scan", {"scene": login["scene"]})
    await act(phone, "confirm", {"login_id": login["login_id"]})
    await send(browser, "resume", proof)
    await send(browser, "redeem", proof)


async def test_acks_of_denied_and_cancelled_logins_match_models(
    browser: PythonBrowser, phone: SocketPhone
) -> None:
    denied = await send(browser, "begin", {})
    await act(phone, "scan", {"scene": denied["scene"]})
    await act(phone, "deny", {"login_id": denied["login_id"]})

    cancelled = await send(browser, "begin", {})
    await send(
        browser,
        "cancel",
        {"login_id": cancelled["login_id"], "secret": cancelled["secret"]},
    )


async def test_acks_of_chat_match_models(start_broker: StartBroker) -> None:
    broker = await start_broker(chat_rooms="open", chat_moderators="pretend:alice")
    requests: list[tuple[str, Payload]] = [
        ("join", {"room": "lounge"}),
        ("say", {"room": "lounge", "id": "1", "text": "hello"}),
        ("say", {"to": "pretend:bob", "id": "1", "data": {}}),
        ("history", {"room": "lounge"}),
        ("conversations", {}),
        ("seen", {"room": "lounge", "offset": 1}),
        ("typing", {"room": "lounge"}),
        ("delete", {"room": "lounge", "offset": 1}),
        ("mute", {"room": "lounge", "subject": "pretend:bob", "seconds": 1}),
        ("kick", {"room": "lounge", "subject": "pretend:bob", "seconds": 1}),
        ("leave", {"room": "lounge"}),
    ]

    async with chatting(broker.url) as chat:
        for event, request in requests:
            RESPONSES["/chat", event].validate_python(await chat.ask(event, request))

    assert {name for namespace, name in RESPONSES if namespace == "/chat"} == dict(requests).keys()
