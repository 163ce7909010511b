"""Channel names and the encoding of notices."""

from __future__ import annotations

from broker.infrastructure.codec import decoder
from broker.infrastructure.coordination import Notice

encode_notice = decoder(Notice)


def decode_notice(payload: bytes) -> Notice | None:
    """The notice, or None for what is none: anybody with the server's password can send."""
    try:
        return encode_notice(payload)
    except (ValueError, RecursionError):
        return None


def channel_name(instance: str) -> str:
    """Where an instance hears its notices."""
    return f"scanlogin:instance:{instance}"
