"""Tests of callbacks, with a backend that receives them over HTTP."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from broker.infrastructure.outbound.circuit_breaker import FAILURE_THRESHOLD, RESET_TIMEOUT
from broker.tunnels import callback_repeats, callback_sender
from broker.tunnels import callbacks as module
from broker.tunnels.callback_sender import (
    GONE_PAUSE,
    IN_FLIGHT_MAX,
    TARGETS_MAX,
    CallbackKind,
)
from broker.tunnels.callbacks import CLOSE_CALL, MESSAGE, OPEN
from broker.tunnels.deferred_closes import CLOSE_DELAYS
from broker.tunnels.metrics import callback_counter
from broker.tunnels.model import AcceptedOpening, CloseRequest, MessageAnswer, TunnelState
from broker.tunnels.ports import CallbackFailed, OpeningRefused
from tests.support.callbacks import (
    OPENING,
    CallbackReceiver,
    Respond,
    Sending,
    answer,
    callback_receiver,
    raw,
    sending,
    verified,
)
from tests.support.tunnels import a_close, a_tunnel
from tests.support.waiting import eventually
from tests.support.webhook import OTHER_SECRET, SECRET

LONG, SHORT = 60.0, 0.05
"""Seconds for an answer: on a busy machine, and if none is expected."""


@pytest.fixture(autouse=True)
def _answers_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callback_repeats, "MESSAGE_DELAYS", (0, 0, 0))
    monkeypatch.setattr(module, "OPEN", OPEN._replace(timeout=LONG))
    monkeypatch.setattr(callback_sender, "VERIFY", callback_sender.VERIFY._replace(timeout=LONG))


@pytest.fixture
async def receiver() -> AsyncIterator[CallbackReceiver]:
    async with callback_receiver() as receiver:
        yield receiver


@pytest.fixture
async def one(receiver: CallbackReceiver) -> AsyncIterator[Sending]:
    async with sending(receiver.url) as one:
        yield one


def attempts(kind: str, outcome: str) -> float:
    return float(callback_counter("shop", kind, outcome)._value.get())


async def test_open_has_the_documented_fields(receiver: CallbackReceiver, one: Sending) -> None:
    await one.callbacks.open(one.tunnel, 7, OPENING)

    [(headers, fields)] = receiver.received
    assert headers["webhook-id"] == f"{one.tunnel.id}.7"
    assert headers["Content-Type"] == "application/json"
    assert fields["type"] == "tunnel.open"
    assert fields["data"] == {
        "app": "shop",
        "tunnel_id": one.tunnel.id,
        "seq": 7,
        "subject": "pretend:alice",
        "openid": "alice",
        "meta": {},
        "ip": "192.0.2.1",
        "user_agent": "agent",
        "resumed": False,
    }


async def test_message_has_the_documented_fields(receiver: CallbackReceiver, one: Sending) -> None:
    tunnel = replace(one.tunnel, subject="", openid="", meta='{"seat":1}')

    await one.message(2, tunnel=tunnel, id="m1")
    await one.message(3, tunnel=tunnel)

    common = {"app": "shop", "tunnel_id": tunnel.id, "meta": {"seat": 1}}
    message = {"data": {"text": "hello"}}
    assert [fields["data"] for _, fields in receiver.received] == [
        {**common, **message, "seq": 2, "id": "m1"},
        {**common, **message, "seq": 3},
    ]


async def test_close_has_the_documented_fields(receiver: CallbackReceiver, one: Sending) -> None:
    await one.callbacks.close(a_close(one.tunnel, seq=4))

    [(headers, fields)] = receiver.received
    assert (headers["webhook-id"], fields["type"]) == (f"{one.tunnel.id}.4", "tunnel.close")
    assert fields["data"].items() >= {"code": 4010, "reason": "done", "by": "server"}.items()


ACCEPTED_OPENINGS: list[tuple[Respond, AcceptedOpening]] = [
    (raw(204), AcceptedOpening()),
    (answer(), AcceptedOpening()),
    (
        answer(meta={"seat": 1}, groups=["a", "b", "a"], subject="bob"),
        AcceptedOpening('{"seat":1}', ("a", "b"), "bob"),
    ),
]


@pytest.mark.parametrize(("respond", "accepted"), ACCEPTED_OPENINGS)
async def test_opening_is_accepted(
    receiver: CallbackReceiver, one: Sending, respond: Respond, accepted: AcceptedOpening
) -> None:
    receiver.answers["open"] = [respond]

    assert await one.callbacks.open(one.tunnel, 1, OPENING) == accepted


@pytest.mark.parametrize("status", [401, 403])
async def test_opening_is_refused(receiver: CallbackReceiver, one: Sending, status: int) -> None:
    receiver.answers["open"] = [answer(status, error="access_denied")]

    with pytest.raises(OpeningRefused):
        await one.callbacks.open(one.tunnel, 1, OPENING)
    assert receiver.counts["open"] == 1


HTML = "<html><title>Not found</title></html>"

OUTAGES: dict[str, Respond] = {
    "500": answer(500),
    "503 with an error": answer(503, error="busy", error_description=""),
    "bare 401": raw(401),
    "bare 404": raw(404),
    "404 with HTML": raw(404, HTML),
    "200 with HTML": raw(200, HTML),
    "200 with a list": raw(200, "[]"),
    "redirect": raw(307, "", Location="/other"),
    "1 MB": raw(200, '{"reply":"' + "x" * 1024 * 1024 + '"}'),
    "201": answer(201),
}
"""Answers that no callback accepts or takes for a refusal."""

OPEN_OUTAGES = OUTAGES | {
    "404 with an error": answer(404, error="unknown"),
    "long meta": answer(meta={"x": "x" * 4096}),
    "meta without object": answer(meta=[]),
    "invalid group": answer(groups=["a b"]),
    "17 groups": answer(groups=[f"group-{n}" for n in range(17)]),
    "invalid subject": answer(subject=1),
    "over 16 KB": answer(meta={}, more="x" * 17_000),
}


@pytest.mark.parametrize("name", OPEN_OUTAGES)
async def test_opening_with_another_answer_fails_once(
    receiver: CallbackReceiver, one: Sending, name: str
) -> None:
    receiver.answers["open"] = [OPEN_OUTAGES[name]]

    with pytest.raises(CallbackFailed):
        await one.callbacks.open(one.tunnel, 1, OPENING)
    assert receiver.counts["open"] == 1


MESSAGE_ANSWERS: list[tuple[Respond, MessageAnswer]] = [
    (raw(204), MessageAnswer()),
    (answer(), MessageAnswer()),
    (answer(reply={"a": [1, None]}), MessageAnswer(reply=b'{"a":[1,null]}')),
    (answer(reply=None), MessageAnswer(reply=b"null")),
    (
        answer(reply=1, close={"code": 4321, "reason": "over"}),
        MessageAnswer(reply=b"1", close=CloseRequest(4321, "over")),
    ),
    (answer(close={}), MessageAnswer(close=CloseRequest(4010, ""))),
    (
        answer(400, error="bad_move", error_description="not your turn"),
        MessageAnswer(error=("bad_move", "not your turn")),
    ),
    (answer(403, error="access_denied"), MessageAnswer(error=("access_denied", ""))),
]


@pytest.mark.parametrize(("respond", "expected"), MESSAGE_ANSWERS)
async def test_message_is_answered(
    receiver: CallbackReceiver, one: Sending, respond: Respond, expected: MessageAnswer
) -> None:
    receiver.answers["message"] = [respond]

    assert await one.message() == expected
    assert receiver.counts["message"] == 1


MESSAGE_OUTAGES = OUTAGES | {
    "400 without an error": answer(400, detail="invalid"),
    "error of another type": answer(400, error=1),
    "close with a bad code": answer(close={"code": 1000}),
    "close of another type": answer(close=True),
    "close with a long reason": answer(close={"reason": "x" * 124}),
    "over 64 KB": answer(reply="x" * 65_536),
}


@pytest.mark.parametrize("name", MESSAGE_OUTAGES)
async def test_message_with_another_answer_is_repeated(
    receiver: CallbackReceiver, one: Sending, name: str
) -> None:
    receiver.answers["message"] = [MESSAGE_OUTAGES[name]] * 3 + [answer(reply="at last")]

    assert await one.message(5) == MessageAnswer(reply=b'"at last"')
    assert {headers["webhook-id"] for headers, _ in receiver.received} == {f"{one.tunnel.id}.5"}
    assert receiver.counts["message"] == 4


async def test_message_is_given_up_after_four_attempts(
    receiver: CallbackReceiver, one: Sending
) -> None:
    receiver.answers["message"] = [raw(500)]
    before = attempts("message", "failed")

    with capture_logs() as logs, pytest.raises(CallbackFailed):
        await one.message()

    assert receiver.counts["message"] == 4
    assert attempts("message", "failed") - before == 4
    [line] = logs
    assert line["event"] == "tunnel callback failed"
    assert (line["type"], line["reason"]) == ("message", "status 500")


async def test_detached_tunnel_stops_the_repeats(receiver: CallbackReceiver, one: Sending) -> None:
    receiver.answers["message"] = [raw(500)]

    with pytest.raises(CallbackFailed):
        await one.message(attached=False)

    assert receiver.counts["message"] == 1


async def send_open(one: Sending) -> object:
    return await one.callbacks.open(one.tunnel, 1, OPENING)


async def send_message(one: Sending) -> object:
    return await one.message()


@pytest.mark.parametrize(("kind", "send"), [(OPEN, send_open), (MESSAGE, send_message)])
async def test_late_answer_is_a_failure(
    receiver: CallbackReceiver,
    one: Sending,
    monkeypatch: pytest.MonkeyPatch,
    kind: CallbackKind,
    send: Callable[[Sending], Awaitable[object]],
) -> None:
    may_answer = asyncio.Event()

    async def late(data: dict[str, Any]) -> web.StreamResponse:
        await may_answer.wait()
        return web.Response(status=204)

    monkeypatch.setattr(module, kind.type.upper(), kind._replace(timeout=SHORT))
    receiver.answers[kind.type] = [late]

    with pytest.raises(CallbackFailed, match="no answer within"):
        await send(one)
    may_answer.set()


async def test_url_is_verified_before_its_first_callback(
    receiver: CallbackReceiver, one: Sending
) -> None:
    await asyncio.gather(*(one.message(seq) for seq in range(1, 10)))

    assert receiver.counts == {"verify": 1, "message": 9}


@pytest.mark.parametrize(
    "respond", [answer(challenge="other"), answer(challenge=1), answer(), raw(204), raw(404)]
)
async def test_url_without_the_challenge_gets_no_callbacks(
    receiver: CallbackReceiver, one: Sending, respond: Respond
) -> None:
    receiver.answers["verify"] = [respond]

    with pytest.raises(CallbackFailed):
        await one.callbacks.open(one.tunnel, 1, OPENING)
    assert receiver.counts == {"verify": 1}

    receiver.answers["verify"] = [verified]
    await one.callbacks.open(one.tunnel, 2, OPENING)
    assert receiver.counts == {"verify": 2, "open": 1}


async def test_known_urls_are_limited(one: Sending) -> None:
    """A backend with many URLs does not fill the memory."""
    sender = one.callbacks._sender
    for number in range(2 * TARGETS_MAX):
        sender._target(one.app, f"https://shop.example/{number}")

    assert len(sender._targets) == TARGETS_MAX


async def fail_messages(one: Sending, count: int, *, attached: bool = False) -> None:
    for number in range(count):
        with pytest.raises(CallbackFailed):
            await one.message(tunnel=replace(one.tunnel, id=f"tunnel-{number}"), attached=attached)


async def test_failing_backend_gets_one_request_at_a_time(
    receiver: CallbackReceiver, one: Sending
) -> None:
    receiver.answers["message"] = [raw(500)]
    await fail_messages(one, FAILURE_THRESHOLD)
    before = attempts("message", "paused")

    await fail_messages(one, 3, attached=True)
    assert receiver.counts["message"] == FAILURE_THRESHOLD
    assert attempts("message", "paused") - before == 3
    one.monotonic.time += RESET_TIMEOUT
    receiver.answers["message"] = [raw(204)]

    assert await one.message() == MessageAnswer()


async def test_failures_of_one_tunnel_do_not_pause_others(
    receiver: CallbackReceiver, one: Sending
) -> None:
    """A client can send messages on which the backend fails."""
    receiver.answers["message"] = [raw(500)]
    for _ in range(2 * FAILURE_THRESHOLD):
        with pytest.raises(CallbackFailed):
            await one.message(attached=False)
    receiver.answers["message"] = [raw(204)]

    assert await one.message(tunnel=a_tunnel(callback_url=receiver.url)) == MessageAnswer()


async def test_deleted_backend_gets_no_callbacks_for_minutes(
    receiver: CallbackReceiver, one: Sending
) -> None:
    receiver.answers["message"] = [answer(410, error="gone")]
    with pytest.raises(CallbackFailed, match="status 410"):
        await one.message()
    assert receiver.counts["message"] == 1
    receiver.answers["message"] = [raw(204)]
    one.monotonic.time += GONE_PAUSE - 1
    with pytest.raises(CallbackFailed):
        await one.message()

    one.monotonic.time += 1

    assert await one.message() == MessageAnswer()


async def test_callbacks_in_flight_are_limited(receiver: CallbackReceiver, one: Sending) -> None:
    may_answer = asyncio.Event()

    async def late(data: dict[str, Any]) -> web.StreamResponse:
        await may_answer.wait()
        return web.Response(status=204)

    receiver.answers["message"] = [late]
    messages = [
        asyncio.create_task(one.message(tunnel=replace(one.tunnel, id=f"tunnel-{number}")))
        for number in range(2 * IN_FLIGHT_MAX)
    ]
    await eventually(lambda: receiver.in_flight == IN_FLIGHT_MAX)
    may_answer.set()
    await asyncio.gather(*messages)

    assert receiver.in_flight_max == IN_FLIGHT_MAX


async def test_cancelled_callback_frees_its_turn(receiver: CallbackReceiver, one: Sending) -> None:
    never = asyncio.Event()

    async def late(data: dict[str, Any]) -> web.StreamResponse:
        await never.wait()
        return web.Response(status=204)

    receiver.answers["message"] = [late]
    messages = [asyncio.create_task(one.message()) for _ in range(2 * IN_FLIGHT_MAX)]
    await eventually(lambda: receiver.in_flight == IN_FLIGHT_MAX)
    for message in messages:
        message.cancel()
    await asyncio.wait(messages)
    receiver.answers["message"] = [raw(204)]

    assert await one.message() == MessageAnswer()
    never.set()


async def due(one: Sending) -> list[Any]:
    return list(await one.queue.take_due([CLOSE_CALL], 10))


async def test_close_is_repeated_after_its_delays(receiver: CallbackReceiver, one: Sending) -> None:
    receiver.answers["close"] = [raw(500)]
    await one.callbacks.schedule_close(a_close(one.tunnel), delay=15)

    await one.callbacks.close(a_close(one.tunnel))

    for delay in CLOSE_DELAYS:
        one.clock.time += delay - 0.5
        assert await due(one) == []
        one.clock.time += 0.5
        [call] = await due(one)
        await one.retries.record(call, await one.callbacks.send_scheduled(call))
    one.clock.time += 100_000
    assert await due(one) == []
    assert receiver.counts["close"] == 1 + len(CLOSE_DELAYS)


async def test_accepted_close_is_not_repeated(receiver: CallbackReceiver, one: Sending) -> None:
    receiver.answers["close"] = [raw(202)]
    await one.callbacks.schedule_close(a_close(one.tunnel), delay=15)

    await one.callbacks.close(a_close(one.tunnel))

    one.clock.time += 100_000
    assert await due(one) == []


async def test_cancelled_close_is_not_sent(one: Sending) -> None:
    await one.callbacks.schedule_close(a_close(one.tunnel), delay=0)

    await one.callbacks.cancel_close(a_close(one.tunnel))

    assert await due(one) == []


async def send_scheduled(one: Sending) -> str:
    await one.callbacks.schedule_close(a_close(one.tunnel), delay=0)
    [call] = await due(one)
    return (await one.callbacks.send_scheduled(call)).value


async def test_scheduled_close_ends_the_tunnel(receiver: CallbackReceiver, one: Sending) -> None:
    """The instance that has scheduled it was killed before it could end the tunnel."""
    await one.stores.records.change(one.tunnel, attachment=0)

    assert await send_scheduled(one) == "delivered"

    assert await one.stores.records.get(one.tunnel.id) is None
    assert receiver.counts["close"] == 1


async def test_scheduled_close_of_a_resumed_tunnel_is_not_sent(
    receiver: CallbackReceiver, one: Sending
) -> None:
    resumed = replace(one.tunnel, attachment=2, state=TunnelState.OPEN)
    await one.stores.records.change(resumed, attachment=0)

    assert await send_scheduled(one) == "refused"

    assert receiver.counts["close"] == 0


async def test_close_for_a_deleted_app_is_dropped(receiver: CallbackReceiver, one: Sending) -> None:
    tunnel = replace(one.tunnel, incarnation="other")
    await one.callbacks.schedule_close(a_close(tunnel), delay=15)

    await one.callbacks.close(a_close(tunnel))

    one.clock.time += 100_000
    assert await due(one) == []
    assert receiver.received == []


async def test_app_without_a_secret_gets_no_callbacks(receiver: CallbackReceiver) -> None:
    async with sending(receiver.url, secrets=[]) as one:
        with pytest.raises(CallbackFailed, match="rotate-webhook-secret shop"):
            await one.callbacks.open(one.tunnel, 1, OPENING)

    assert receiver.counts == {}


async def test_each_active_secret_signs(receiver: CallbackReceiver) -> None:
    async with sending(receiver.url, secrets=[OTHER_SECRET, SECRET]) as one:
        await one.message()

    [(headers, _)] = receiver.received
    assert len(headers["webhook-signature"].split()) == 2


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::ffff:127.0.0.1", "169.254.169.254", "fe80::1", "10.0.0.1"]
)
async def test_private_address_gets_no_callbacks(address: str) -> None:
    """The name is resolved for each connection, so a change of its address has no effect."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    async def resolve(host: str, port: int) -> list[Any]:
        return [(family, socket.SOCK_STREAM, 0, "", (address, port))]

    async with sending("https://hook.example/", is_private=False, resolve=resolve) as one:
        with pytest.raises(CallbackFailed, match="is not a public address"):
            await one.callbacks.open(one.tunnel, 1, OPENING)


async def test_http_needs_a_setting(receiver: CallbackReceiver) -> None:
    async with sending(receiver.url, is_private=False) as one:
        with pytest.raises(CallbackFailed, match="does not use https"):
            await one.callbacks.open(one.tunnel, 1, OPENING)

    assert receiver.counts == {}


BRIEF_FAILURES = st.lists(
    st.lists(st.sampled_from(sorted(MESSAGE_OUTAGES)), max_size=3), min_size=1, max_size=8
)
"""The failures before each message is accepted."""


@settings(max_examples=30, deadline=None)
@given(BRIEF_FAILURES)
async def test_accepted_numbers_are_a_prefix(failures: list[list[str]]) -> None:
    accepted: list[int] = []

    async def accept(data: dict[str, Any]) -> web.StreamResponse:
        accepted.append(data["seq"])
        return web.Response(status=204)

    async with callback_receiver() as receiver, sending(receiver.url) as one:
        for seq, names in enumerate(failures, start=1):
            receiver.answers["message"] = [*(MESSAGE_OUTAGES[name] for name in names), accept]
            await one.message(seq)

    assert accepted == list(range(1, len(failures) + 1))
