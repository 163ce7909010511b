"""WebSocket frames after RFC 6455, the server's side, without any I/O.

Strict: what the RFC forbids is a `ProtocolViolation` with the close code that it names,
and the socket is done.  No extension is offered, so every RSV bit is forbidden.
"""

from __future__ import annotations

import base64
import hashlib
from typing import NamedTuple

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

OPCODES = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})

FIN, RSV, OPCODE, MASKED, LENGTH = 0x80, 0x70, 0x0F, 0x80, 0x7F

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
"""Close codes that may come in a frame; the others are reserved, or nobody's."""

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class ProtocolViolation(Exception):
    """The peer broke the rules.  code: what to close with."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class Frame(NamedTuple):
    """end: where the next frame begins, in what was read."""

    fin: bool
    opcode: int
    payload: bytes
    end: int


def accept_key(key: bytes) -> bytes:
    """The answer to a handshake's `Sec-WebSocket-Key` (section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest())


def parse_frame(data: bytes | bytearray, start: int, max_bytes: int) -> Frame | int:
    """The frame that begins at `start`; where it is not whole yet, the length `data` must have.

    longest: payload in bytes that is taken.  Raises ProtocolViolation as soon as the
    header shows it, before the payload has come.
    """
    have = len(data)
    if have < start + 2:
        return start + 2
    first, second = data[start], data[start + 1]
    opcode, length, at = first & OPCODE, second & LENGTH, start + 2
    _check_header(first, second, length)
    if length == 126:
        if have < at + 2:
            return at + 2
        length = int.from_bytes(data[at : at + 2], "big")
        at += 2
        if length < 126:
            raise ProtocolViolation(PROTOCOL_ERROR, "a length longer than need be")
    elif length == 127:
        if have < at + 8:
            return at + 8
        length = int.from_bytes(data[at : at + 8], "big")
        at += 8
        if length < 1 << 16 or length >> 63:
            raise ProtocolViolation(PROTOCOL_ERROR, "a length longer than need be")
    if length > max_bytes and opcode < CLOSE:
        raise ProtocolViolation(TOO_BIG, "the message is too long")
    end = at + 4 + length
    if have < end:
        return end
    payload = unmask(data[at : at + 4], data[at + 4 : end])
    return Frame(first & FIN != 0, opcode, payload, end)


def _check_header(first: int, second: int, length: int) -> None:
    opcode = first & OPCODE
    if first & RSV:
        raise ProtocolViolation(PROTOCOL_ERROR, "an extension that was never agreed on")
    if opcode not in OPCODES:
        raise ProtocolViolation(PROTOCOL_ERROR, "an opcode that there is not")
    if not second & MASKED:
        raise ProtocolViolation(PROTOCOL_ERROR, "a frame that is not masked")
    if opcode >= CLOSE and (not first & FIN or length > CONTROL_MAX_BYTES):
        raise ProtocolViolation(PROTOCOL_ERROR, "a control frame that is long or in pieces")


def unmask(mask: bytes | bytearray, payload: bytes | bytearray) -> bytes:
    """The payload without its mask (section 5.3): one exclusive or of two long numbers."""
    size = len(payload)
    key = (bytes(mask) * (size // 4 + 1))[:size]
    plain = int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")
    return plain.to_bytes(size, "little")


def build_frame(opcode: int, payload: bytes) -> bytes:
    """One whole frame to a client, which is never masked."""
    size = len(payload)
    if size < 126:
        return bytes((FIN | opcode, size)) + payload
    if size < 1 << 16:
        return bytes((FIN | opcode, 126)) + size.to_bytes(2, "big") + payload
    return bytes((FIN | opcode, 127)) + size.to_bytes(8, "big") + payload


def build_close_frame(code: int) -> bytes:
    return build_frame(CLOSE, code.to_bytes(2, "big"))


def parse_close_code(payload: bytes) -> int:
    """The code that a close frame's payload asks to be answered with; raises ProtocolViolation."""
    if not payload:
        return NORMAL
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or code not in SENDABLE:
        raise ProtocolViolation(PROTOCOL_ERROR, "a close code that there is not")
    decode_text(payload[2:])
    return code


def decode_text(payload: bytes | bytearray) -> str:
    """The text of a message; raises ProtocolViolation for what is no UTF-8."""
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise ProtocolViolation(INVALID_DATA, "text that is no UTF-8") from None
