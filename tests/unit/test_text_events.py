"""Packets that the broker reads and builds itself: python-socketio reads and builds the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from socketio import packet

from broker.infrastructure.transport.socketio.server import TextPacket
from broker.infrastructure.transport.socketio.text_events import (
    TextConnect,
    TextEvent,
    build_ack,
    build_connect,
    build_event,
    parse_connect,
    parse_event,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=3), values),
    max_leaves=6,
)
HEADS = st.text(alphabet="2345/,-?0179[²٣ab", max_size=8).map(lambda text: "2" + text)
BODIES = st.sampled_from(['["begin",{}]', '["x"]', "[]", "[", '{"a":1}', '["a",[1,"2-"]]', ""])
CONNECT_HEADS = st.text(alphabet="0/lo,?-17 {", max_size=8)
IDS = st.none() | st.integers(0, 10**18)
NAMESPACES = st.sampled_from(["/", "/login", "/phone-1"])


def read_by_python_socketio(message: str) -> TextEvent:
    """Raises an exception if python-socketio does not read an event."""
    read = TextPacket(encoded_packet=message)
    assert read.packet_type == packet.EVENT
    assert not read.attachment_count
    return TextEvent(read.namespace or "/", read.id, read.data)


@given(HEADS, BODIES)
@example("2", '["begin",{}]')
@example("2/login,17", '["begin",{}]')
@example("2/login?a=b,17", '["begin",{}]')
@example("21-", '["begin",{}]')
@example("2" + "9" * 18, "[]")
@example("2" + "9" * 101, "[]")
@example("2/,", '["x"]')
def test_event_is_read_as_by_python_socketio(head: str, body: str) -> None:
    message = head + body
    try:
        event = parse_event(message)
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011  # of any JSON module
            read_by_python_socketio(message)
        return
    if event is not None:
        assert event == read_by_python_socketio(message)


@pytest.mark.parametrize("message", ["0/login,", '3/login,1["x"]', '51-["x"]', b'2["x"]', "", "2"])
def test_other_messages_are_left_to_python_socketio(message: object) -> None:
    assert parse_event(message) is None


@pytest.mark.parametrize("head", ["2", "217", "2/login,", "2/login,17"])
def test_events_of_browsers_are_read(head: str) -> None:
    assert parse_event(head + '["begin",{"a":"2-"}]') is not None


@given(
    CONNECT_HEADS,
    st.sampled_from(["", "{}", '{"app":"a-1"}', "{", "[]"]),
)
@example("/login,", "")
@example("/login,", '{"app":"shop"}')
@example("/login?a=b,", "{}")
@example("/login", "")
@example("", "{}")
@example("1-", "{}")
def test_connect_is_read_as_by_python_socketio(head: str, body: str) -> None:
    message = f"0{head}{body}"
    try:
        connect = parse_connect(message)
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011  # of any JSON module
            TextPacket(encoded_packet=message)
        return
    if connect is not None:
        read = TextPacket(encoded_packet=message)
        assert (read.packet_type, read.id, read.attachment_count) == (packet.CONNECT, None, 0)
        assert connect == TextConnect(read.namespace or "/", read.data)


@pytest.mark.parametrize("message", ['2/login,["x"]', "1", "0/login", "01{}", b"0", "", "0[]"])
def test_unusual_connect_is_left_to_python_socketio(message: object) -> None:
    assert parse_connect(message) is None


@pytest.mark.parametrize("message", ["0", "0{}", "0/login,", '0/login,{"app":"shop"}'])
def test_connects_of_browsers_are_read(message: str) -> None:
    assert parse_connect(message) is not None


@given(NAMESPACES, st.text(alphabet="0123456789abcdef", min_size=1))
def test_accepted_connect_is_built_as_by_python_socketio(namespace: str, sid: str) -> None:
    expected = TextPacket(packet.CONNECT, namespace=namespace, data={"sid": sid}).encode()

    assert build_connect(namespace, sid) == expected


@given(NAMESPACES, IDS.filter(lambda number: number is not None), JSON)
def test_acknowledgement_is_built_as_by_python_socketio(
    namespace: str, number: int, answer: Any
) -> None:
    data = [] if answer is None else [answer]
    expected = TextPacket(packet.ACK, namespace=namespace, id=number, data=data).encode()

    assert build_ack(TextEvent(namespace, number, []), answer) == expected


@given(NAMESPACES, IDS, st.lists(JSON, max_size=2))
def test_event_is_built_as_by_python_socketio(
    namespace: str, number: int | None, arguments: list[Any]
) -> None:
    expected = TextPacket(
        packet.EVENT, namespace=namespace, id=number, data=["chat", *arguments]
    ).encode()

    assert build_event("chat", tuple(arguments), namespace=namespace, ack_id=number) == expected


@pytest.mark.parametrize(("data", "expected"), [(None, '2["x"]'), ([1], '2["x",[1]]')])
def test_event_has_one_argument_or_none(data: object, expected: str) -> None:
    assert build_event("x", data, namespace="/") == expected
