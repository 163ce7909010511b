"""WebSocket frames (RFC 6455, the server's side), without I/O.

The parser is strict. Data that the RFC forbids raises `ProtocolViolation` with the close code
that the RFC names. No extension is offered, so each RSV bit is an error.
"""

from __future__ import annotations

from typing import NamedTuple

Message = str | bytes
"""A text or binary message."""

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

OPCODES = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})

FIN, RSV, OPCODE, MASKED, LENGTH = 0x80, 0x70, 0x0F, 0x80, 0x7F

WHOLE_MESSAGES = frozenset({FIN | TEXT, FIN | BINARY})
"""First bytes of frames that need no further check of the header, if they are masked."""

CONTROL_MAX_BYTES = 125
"""Longest payload of a control frame (section 5.5)."""

NORMAL, GOING_AWAY, PROTOCOL_ERROR, INVALID_DATA, POLICY, TOO_BIG = (
    1000,
    1001,
    1002,
    1007,
    1008,
    1009,
)
"""Close codes (section 7.4.1)."""

SENDABLE = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)})
"""Close codes that a frame may contain. All others are reserved or undefined."""


class ProtocolViolation(Exception):
    """The peer violated the protocol. code: the close code for it."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(description)
        self.code = code


class Frame(NamedTuple):
    """end: offset of the next frame in the data."""

    fin: bool
    opcode: int
    payload: bytes
    end: int


def parse_frame(data: bytes | bytearray, start: int, max_bytes: int) -> Frame | int:
    """Return the frame at `start`; if it is incomplete, the length that `data` must have.

    max_bytes: limit of the payload of a data frame. Raises ProtocolViolation as soon as the
    header shows the violation, before the payload is received.
    """
    available = len(data)
    if available < start + 2:
        return start + 2
    first, second = data[start], data[start + 1]
    opcode, length, at = first & OPCODE, second & LENGTH, start + 2
    if first not in WHOLE_MESSAGES or second < MASKED:
        _check_header(first, second, length)
    if length > CONTROL_MAX_BYTES:
        size = 2 if length == 126 else 8
        if available < at + size:
            return at + size
        length = _parse_extended_length(data[at : at + size])
        at += size
    if length > max_bytes and opcode < CLOSE:
        raise ProtocolViolation(TOO_BIG, "message is too long")
    end = at + 4 + length
    if available < end:
        return end
    payload = unmask(data[at : at + 4], data[at + 4 : end])
    return Frame(first & FIN != 0, opcode, payload, end)


def _check_header(first: int, second: int, length: int) -> None:
    opcode = first & OPCODE
    if first & RSV:
        raise ProtocolViolation(PROTOCOL_ERROR, "RSV bit without an extension")
    if opcode not in OPCODES:
        raise ProtocolViolation(PROTOCOL_ERROR, "unknown opcode")
    if not second & MASKED:
        raise ProtocolViolation(PROTOCOL_ERROR, "frame is not masked")
    if opcode >= CLOSE and (not first & FIN or length > CONTROL_MAX_BYTES):
        raise ProtocolViolation(PROTOCOL_ERROR, "control frame is fragmented or too long")


def _parse_extended_length(field: bytes | bytearray) -> int:
    length = int.from_bytes(field, "big")
    shortest = 126 if len(field) == 2 else 1 << 16
    if length < shortest or length >> 63:
        raise ProtocolViolation(PROTOCOL_ERROR, "length is not in its shortest form")
    return length


def unmask(mask: bytes | bytearray, payload: bytes | bytearray) -> bytes:
    """Remove the mask (section 5.3) with one exclusive or of two large integers."""
    size = len(payload)
    key = (bytes(mask) * (size // 4 + 1))[:size]
    plain = int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")
    return plain.to_bytes(size, "little")


def build_frame(opcode: int, payload: bytes) -> bytes:
    """Return one unfragmented frame to a client, which is never masked."""
    size = len(payload)
    if size < 126:
        return bytes((FIN | opcode, size)) + payload
    if size < 1 << 16:
        return bytes((FIN | opcode, 126)) + size.to_bytes(2, "big") + payload
    return bytes((FIN | opcode, 127)) + size.to_bytes(8, "big") + payload


def build_message(message: Message) -> bytes:
    if isinstance(message, bytes):
        return build_frame(BINARY, message)
    return build_frame(TEXT, message.encode())


def build_close_frame(code: int, reason: str = "") -> bytes:
    """reason: at most 123 bytes."""
    return build_frame(CLOSE, code.to_bytes(2, "big") + reason.encode())


def parse_close_code(payload: bytes) -> int:
    """Return the code for the answer to a close frame. Raises ProtocolViolation."""
    if not payload:
        return NORMAL
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or code not in SENDABLE:
        raise ProtocolViolation(PROTOCOL_ERROR, "invalid close code")
    decode_text(payload[2:])
    return code


def decode_text(payload: bytes | bytearray) -> str:
    """Return the text of a message. Raises ProtocolViolation if it is not UTF-8."""
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise ProtocolViolation(INVALID_DATA, "text is not UTF-8") from None
