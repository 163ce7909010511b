"""Tests of RFC 6455 frames, also against another implementation as the oracle."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, NamedTuple

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side

from broker.infrastructure.transport.websocket import frames
from broker.infrastructure.transport.websocket.connection import (
    FRAMES_PER_WRITE,
    WebSocketConnection,
)
from broker.infrastructure.transport.websocket.frames import Message, ProtocolViolation
from broker.infrastructure.transport.websocket.handshake import accept_key
from tests.support.engineio_client import Client, client_of
from tests.support.websocket_client import (
    LONGEST,
    RecordingHandler,
    Transport,
    masked,
    more,
    raw_transport,
    read_sent,
    text,
)


def closing(payload: bytes) -> bytes:
    return masked(frames.FIN | frames.CLOSE, payload)


def code(number: int, reason: bytes = b"") -> bytes:
    return number.to_bytes(2, "big") + reason


class Outcome(NamedTuple):
    """The result of reading some bytes.

    closed: the close code.  pongs: the payloads of the pongs.
    """

    messages: list[Message]
    closed: int | None
    pongs: list[bytes]


async def outcome_of_broker(pieces: Iterable[bytes]) -> Outcome:
    handler, transport = RecordingHandler(), Transport()
    socket = WebSocketConnection(handler, transport)  # type: ignore[arg-type]
    for piece in pieces:
        if transport.open:
            socket.data_received(piece)
        await asyncio.sleep(0)
        while socket._is_queued:
            await asyncio.sleep(0)
    sent = list(read_sent(transport.written))
    codes = [int.from_bytes(body, "big") for opcode, body in sent if opcode == frames.CLOSE]
    assert len(codes) == len(handler.closed) <= 1
    assert not codes or sent[-1][0] == frames.CLOSE
    return Outcome(
        handler.messages,
        codes[0] if codes else None,
        [body for opcode, body in sent if opcode == frames.PONG],
    )


def outcome_of(*pieces: bytes) -> Outcome:
    return asyncio.run(outcome_of_broker(pieces))


def closed_with(*pieces: bytes) -> int | None:
    return outcome_of(*pieces).closed


# ---- headers ----


@pytest.mark.parametrize("bit", [0x40, 0x20, 0x10, 0x70])
@pytest.mark.parametrize("opcode", [frames.TEXT, frames.PING])
def test_reserved_bit_is_a_protocol_error(bit: int, opcode: int) -> None:
    assert closed_with(masked(frames.FIN | bit | opcode)) == 1002


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF])
def test_reserved_opcode_is_a_protocol_error(opcode: int) -> None:
    assert closed_with(masked(frames.FIN | opcode)) == 1002


@pytest.mark.parametrize("opcode", [frames.TEXT, frames.BINARY, frames.PING, frames.CLOSE])
def test_unmasked_frame_is_a_protocol_error(opcode: int) -> None:
    assert closed_with(masked(frames.FIN | opcode, b"", mask=False)) == 1002


@pytest.mark.parametrize(
    "header",
    [
        bytes((0x81, 0xFE)) + (125).to_bytes(2, "big"),
        bytes((0x81, 0xFF)) + (125).to_bytes(8, "big"),
        bytes((0x81, 0xFF)) + (65535).to_bytes(8, "big"),
        bytes((0x81, 0xFF)) + (1 << 63).to_bytes(8, "big"),
    ],
)
def test_length_that_is_not_minimal_is_a_protocol_error(header: bytes) -> None:
    assert closed_with(header) == 1002


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536])
def test_message_of_each_length_encoding_is_read(size: int) -> None:
    assert outcome_of(text(b"x" * size)).messages == ["x" * size]


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 1000])
def test_payload_of_any_length_is_unmasked(size: int) -> None:
    payload = os.urandom(size)
    assert outcome_of(masked(frames.FIN | frames.BINARY, payload)).messages == [payload]


@pytest.mark.parametrize("size", [LONGEST + 1, 1 << 20, (1 << 63) - 1])
def test_oversized_message_is_refused_at_its_header(size: int) -> None:
    assert closed_with(masked(0x81, length=size)) == 1009


def test_fragments_share_one_size_limit() -> None:
    half = b"x" * (LONGEST // 2)

    assert outcome_of(text(half, fin=False), more(half)).messages == ["x" * LONGEST]
    assert closed_with(text(half, fin=False), masked(0x80, length=LONGEST // 2 + 1)) == 1009


# ---- control frames ----


@pytest.mark.parametrize("opcode", [frames.CLOSE, frames.PING, frames.PONG])
def test_fragmented_or_long_control_frame_is_refused(opcode: int) -> None:
    assert closed_with(masked(opcode)) == 1002
    assert closed_with(masked(frames.FIN | opcode, length=126)) == 1002
    assert closed_with(masked(frames.FIN | opcode, length=70_000)) == 1002


@pytest.mark.parametrize("payload", [b"", b"x", b"\xff\x00" * 62])
def test_ping_is_answered_with_its_payload(payload: bytes) -> None:
    assert outcome_of(masked(frames.FIN | frames.PING, payload)).pongs == [payload]


def test_pong_is_ignored() -> None:
    assert outcome_of(masked(frames.FIN | frames.PONG, b"x")) == ([], None, [])


def test_control_frame_between_fragments_is_accepted() -> None:
    ping = masked(frames.FIN | frames.PING, b"p")

    assert outcome_of(text(b"a", fin=False), ping, more(b"b")) == (["ab"], None, [b"p"])


def test_ping_is_answered_if_fragments_fill_the_limit() -> None:
    ping = masked(frames.FIN | frames.PING, b"p" * 125)

    assert outcome_of(text(b"x" * LONGEST, fin=False), ping).pongs == [b"p" * 125]


# ---- fragments ----


def test_fragments_form_one_message() -> None:
    pieces = [text(b"a", fin=False), more(b"", fin=False), more(b"b", fin=False), more(b"c")]

    assert outcome_of(*pieces, text(b"d")).messages == ["abc", "d"]


def test_continuation_without_first_frame_is_a_protocol_error() -> None:
    assert closed_with(more(b"x")) == 1002
    assert closed_with(text(b"x"), more(b"x")) == 1002


@pytest.mark.parametrize("fin", [True, False])
def test_message_within_a_message_is_a_protocol_error(fin: bool) -> None:
    assert closed_with(text(b"a", fin=False), text(b"b", fin=fin)) == 1002


def test_first_fragment_may_be_empty() -> None:
    assert outcome_of(text(b"", fin=False), more(b"x")).messages == ["x"]
    assert closed_with(text(b"", fin=False), text(b"x")) == 1002


# ---- UTF-8 ----


@pytest.mark.parametrize(
    "payload",
    [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"ok\x80"],
)
def test_text_that_is_not_utf_8_is_refused(payload: bytes) -> None:
    assert closed_with(text(payload)) == 1007
    assert closed_with(closing(code(1000, payload))) == 1007


def test_character_may_be_split_over_fragments() -> None:
    assert outcome_of(text(b"\xe2\x82", fin=False), more(b"\xac")).messages == ["\u20ac"]


def test_binary_message_may_have_any_bytes() -> None:
    assert outcome_of(masked(frames.FIN | frames.BINARY, b"\xff\xfe")).messages == [b"\xff\xfe"]


# ---- close ----


@pytest.mark.parametrize("number", [1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 4999])
def test_close_is_answered_with_its_code(number: int) -> None:
    assert closed_with(closing(code(number, b"because"))) == number


@pytest.mark.parametrize("number", [0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65535])
def test_close_with_undefined_code_is_a_protocol_error(number: int) -> None:
    assert closed_with(closing(code(number))) == 1002


def test_close_may_be_empty_but_not_one_byte() -> None:
    assert closed_with(closing(b"")) == 1000
    assert closed_with(closing(b"\x03")) == 1002


def test_message_after_close_is_ignored() -> None:
    assert outcome_of(closing(code(1000)) + text(b"late"), text(b"later")).messages == []


def test_messages_before_a_violation_are_delivered() -> None:
    assert outcome_of(text(b"one") + text(b"two") + masked(0x83)) == (["one", "two"], 1002, [])


# ---- sent frames ----


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536, 100_000])
def test_sent_frame_has_shortest_length_and_no_mask(size: int) -> None:
    sent = frames.build_frame(frames.BINARY, b"x" * size)
    header = len(sent) - size

    assert header == (2 if size < 126 else 4 if size < 65536 else 10)
    assert sent[0] == frames.FIN | frames.BINARY
    assert not sent[1] & frames.MASKED


Connection = tuple[WebSocketConnection, Transport]


@pytest.fixture
async def connection() -> Connection:
    """A WebSocket connection and its transport."""
    transport = Transport()
    return WebSocketConnection(RecordingHandler(), transport), transport  # type: ignore[arg-type]


async def test_messages_of_one_loop_iteration_share_one_write(connection: Connection) -> None:
    socket, transport = connection

    for packet in ("4one", b"two", "4three"):
        socket.send(packet)
    assert not transport.written
    await asyncio.sleep(0)

    assert [body for _, body in read_sent(transport.written)] == [b"4one", b"two", b"4three"]
    assert transport.writes == 1
    socket.send("4four")
    await asyncio.sleep(0)
    assert transport.writes == 2


async def test_close_is_written_with_the_messages_before(connection: Connection) -> None:
    socket, transport = connection

    socket.send("4one")
    socket.close()
    socket.send("4too late")
    await asyncio.sleep(0)

    opcodes = [opcode for opcode, _ in read_sent(transport.written)]
    assert (opcodes, transport.writes) == ([frames.TEXT, frames.CLOSE], 1)


async def test_message_to_an_aborted_connection_is_not_written(
    connection: Connection,
) -> None:
    socket, transport = connection

    socket.send("4one")
    socket.abort()
    await asyncio.sleep(0)

    assert not transport.written


async def test_many_messages_are_written_before_the_iteration_ends(connection: Connection) -> None:
    socket, transport = connection

    for _ in range(2 * FRAMES_PER_WRITE):
        socket.send("4")

    assert transport.writes == 2


def test_accept_key_matches_the_rfc_example() -> None:
    assert accept_key(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


# ---- another implementation of the RFC ----


def outcome_of_websockets(data: bytes) -> Outcome:
    oracle = Protocol(Side.SERVER, max_size=LONGEST)
    oracle.receive_data(data)
    messages: list[Message] = []
    pongs: list[bytes] = []
    parts, is_text = b"", False
    for frame in oracle.events_received():
        assert isinstance(frame, Frame)
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            is_text = is_text if frame.opcode is Opcode.CONT else frame.opcode is Opcode.TEXT
            parts += bytes(frame.data)
            if frame.fin:
                try:
                    messages.append(parts.decode() if is_text else parts)
                except UnicodeDecodeError:  # websockets does not decode the text
                    return Outcome(messages, 1007, pongs)
                parts = b""
        elif frame.opcode is Opcode.PING:
            pongs.append(bytes(frame.data))
    # The broker accepts a close between fragments. The RFC allows it.
    sent = oracle.close_rcvd or oracle.close_sent
    # 1005 means that there is no code. The broker answers with 1000 then.
    code = None if sent is None else sent.code
    return Outcome(messages, 1000 if code == 1005 else code, pongs)


class LongFrame(bytes):
    """A frame that is not printed in full if a test fails."""

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"


payloads = st.binary(max_size=140) | st.text(max_size=40).map(str.encode)
reasons = st.text(max_size=30).map(str.encode)
closes = st.builds(code, st.integers(990, 1020) | st.integers(0, 5100), reasons).map(closing) | (
    st.binary(max_size=1).map(closing)
)
data_frames = st.builds(masked, st.sampled_from([0, 1, 2, 0x80, 0x81, 0x82]), payloads)
# No fragment fills the limit, because the oracle also counts the next ping.
long_frames = st.builds(
    lambda first, size: LongFrame(masked(first, b"x" * (size if first & frames.FIN else 30_000))),
    st.sampled_from([0, 1, 0x80, 0x82]),
    st.sampled_from([30_000, 65_535, 65_536]),
)
oversized_frames = st.builds(
    masked, st.sampled_from([1, 2, 0x81, 0x82]), length=st.integers(LONGEST + 1, 1 << 62)
)
controls = st.builds(masked, st.sampled_from([0x89, 0x8A]), st.binary(max_size=125))
invalid_frames = st.builds(
    masked, st.integers(0, 255), st.binary(max_size=125), mask=st.sampled_from([True, True, False])
).filter(lambda frame: frame[0] & 0x0F != frames.CLOSE)
streams = st.lists(
    st.one_of(
        data_frames,
        data_frames,
        controls,
        controls,
        long_frames,
        invalid_frames,
        closes,
        oversized_frames,
    ),
    max_size=8,
)


@settings(max_examples=500, deadline=None)
@given(sent=streams, cut=st.integers(0, 12), splits=st.lists(st.integers(0, 2000), max_size=6))
def test_any_frames_have_the_same_outcome_as_websockets(
    sent: list[bytes], cut: int, splits: list[int]
) -> None:
    """The bytes arrive at once and in pieces.

    The broker decides by the header of a frame, websockets waits for its end.
    """
    whole = b"".join(sent)
    data = whole[: max(0, len(whole) - cut)]
    places = [0, *sorted(place for place in splits if place < len(data)), len(data)]
    pieces = [data[a:b] for a, b in pairwise(places) if a < b]

    outcome = outcome_of(*pieces)

    assert outcome in (outcome_of_websockets(data), outcome_of_websockets(whole))
    assert outcome == outcome_of(*[data] * bool(data))


@settings(max_examples=60, deadline=None)
@given(sent=st.lists(st.one_of(data_frames, controls, invalid_frames, closes), max_size=3))
def test_single_bytes_have_the_same_outcome(sent: list[bytes]) -> None:
    data = b"".join(sent)

    assert outcome_of(*(data[at : at + 1] for at in range(len(data)))) == outcome_of_websockets(
        data
    )


@settings(max_examples=500, deadline=None)
@given(data=st.binary(max_size=400), start=st.integers(0, 10))
def test_random_bytes_raise_only_protocol_violation(data: bytes, start: int) -> None:
    try:
        found = frames.parse_frame(data, start, LONGEST)
    except ProtocolViolation:
        return
    if isinstance(found, int):
        assert found > len(data)
    else:
        assert start < found.end <= len(data)


# ---- through a real socket ----


@pytest.fixture(scope="module")
def codes() -> dict[int, bytes]:
    """Frames by the code of the close that answers them."""
    return {
        1000: closing(code(1000)),
        1001: closing(code(1001, b"going")),
        1002: masked(0x83),
        1007: text(b"4\xff"),
        1008: text(b"no packet"),
        1009: masked(0x81, length=1 << 21),
        4000: closing(code(4000)),
    }


@pytest.mark.parametrize("number", [1000, 1001, 1002, 1007, 1008, 1009, 4000])
async def test_client_receives_the_close_code(codes: dict[int, bytes], number: int) -> None:
    async with (
        client_of("eio", ping_interval=25.0, ping_timeout=20.0) as client,
        client.opened() as ws,
    ):
        transport = raw_transport(ws)
        transport.write(codes[number])

        assert (await ws.receive(timeout=30)).data == number


async def test_stream_of_single_bytes_is_read(client: Client) -> None:
    async with client.opened() as ws:
        transport = raw_transport(ws)
        for byte in text(b"4hello") + masked(0x89, b"p") + text(b"4you"):
            transport.write(bytes((byte,)))
            await asyncio.sleep(0)

        assert await ws.receive_str() == "4hello"
        assert (await ws.receive()).type is aiohttp.WSMsgType.PONG
        assert await ws.receive_str() == "4you"


@pytest.fixture
async def client() -> Any:
    async with client_of("eio", ping_interval=25.0, ping_timeout=20.0) as client:
        yield client
