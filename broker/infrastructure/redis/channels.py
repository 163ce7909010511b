"""Channel names and the encoding of notices."""

from __future__ import annotations

from broker.infrastructure.codec import decoder, encode
from broker.infrastructure.coordination import Notice

_decode = decoder(Notice)


def channel_name(instance: str) -> str:
    """Return the channel on which an instance receives its notices."""
    return f"scanlogin:instance:{instance}"


def encode_notice(notice: Notice) -> bytes:
    return encode(notice)


def decode_notice(payload: bytes) -> Notice | None:
    """Return the notice, or None for invalid data.

    Any client with the server's password can send data to the channel.
    """
    try:
        return _decode(payload)
    except (ValueError, RecursionError):
        return None
