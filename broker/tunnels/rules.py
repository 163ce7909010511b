"""The life of a tunnel, and the rules for its fields. Pure functions.

        ticket used              socket lost
pending ───────────▶ open ───────────────────────▶ away
                     ▲ │ ◀──────── resume ─────────┘ │
            resume ──┘ └───── end ──▶ closed ◀── end ┘
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from typing import TypedDict, Unpack

from broker.infrastructure.codec import encode
from broker.tunnels.model import (
    META_MAX_BYTES,
    WAFER,
    AcceptedOpening,
    ClosedBy,
    Tunnel,
    TunnelState,
)

GROUPS_MAX = 16

GROUP_NAME = r"[A-Za-z0-9._:-]{1,64}"

SUBJECT_MAX = 128

CLOSE_REASON_MAX_BYTES = 123
"""A close frame has 125 bytes, two of them for the code (RFC 6455, section 5.5)."""


class TunnelAct(StrEnum):
    ATTACH = "attach"
    LOSE = "lose"


RULES: Mapping[tuple[TunnelState, TunnelAct], TunnelState] = {
    (TunnelState.OPEN, TunnelAct.ATTACH): TunnelState.OPEN,
    (TunnelState.AWAY, TunnelAct.ATTACH): TunnelState.OPEN,
    (TunnelState.OPEN, TunnelAct.LOSE): TunnelState.AWAY,
}
"""The state after an act. A pair that is not in the table is not possible. A pending tunnel and
a closed one have no record. `end` is possible in both states."""


class Changes(TypedDict, total=False):
    """Fields of a tunnel that change."""

    state: TunnelState
    attachment: int
    instance: str
    epoch: str
    resume_hash: bytes
    opened_at: float
    seen_at: float
    due_at: float
    lost_by: ClosedBy
    meta: str
    groups: tuple[str, ...]
    subject: str


def edit(tunnel: Tunnel, **changes: Unpack[Changes]) -> Tunnel:
    """Return the next version of the record."""
    return replace(tunnel, version=tunnel.version + 1, **changes)


def attach(tunnel: Tunnel, *, instance: str, now: float, session_end: float = 0.0) -> Tunnel:
    """Return the tunnel with a socket at `instance`. A new one is open from now on.

    session_end: when the session ends, Unix time in seconds; 0 without a session.
    """
    return edit(
        tunnel,
        state=RULES[tunnel.state, TunnelAct.ATTACH],
        attachment=tunnel.attachment + 1,
        instance=instance,
        opened_at=tunnel.opened_at or now,
        seen_at=now,
        due_at=session_end,
    )


def lose(tunnel: Tunnel, by: ClosedBy, *, now: float, away_timeout: float) -> Tunnel | None:
    """Return the tunnel without its socket; None if it has none.

    by: `network` or `drain`.  away_timeout: seconds until the tunnel ends. A Wafer tunnel ends
        at once.
    """
    state = RULES.get((tunnel.state, TunnelAct.LOSE))
    if state is None:
        return None
    due_at = now if tunnel.api == WAFER else now + away_timeout
    return edit(tunnel, state=state, lost_by=by, due_at=due_at)


def free(tunnel: Tunnel, *, now: float, away_timeout: float) -> Tunnel | None:
    """As `lose`, for a tunnel whose instance seems to have ended.

    The attachment is another one then. If the instance still runs, it makes no further callback
    and closes the socket.
    """
    away = lose(tunnel, ClosedBy.NETWORK, now=now, away_timeout=away_timeout)
    return None if away is None else replace(away, attachment=tunnel.attachment + 1)


def accept(tunnel: Tunnel, answer: AcceptedOpening) -> Tunnel:
    """Return the tunnel with what the backend has answered to `tunnel.open`."""
    return edit(
        tunnel,
        meta=tunnel.meta if answer.meta is None else answer.meta,
        groups=tunnel.groups if answer.groups is None else answer.groups,
        subject=tunnel.subject if answer.subject is None else answer.subject,
    )


def check_meta(value: object) -> str:
    """Return a JSON object as text. Raises ValueError, whose text is for the backend."""
    text = encode(value) if isinstance(value, dict) else b""
    if not 0 < len(text) <= META_MAX_BYTES:
        raise ValueError(f"must be a JSON object of at most {META_MAX_BYTES} bytes")
    return text.decode()


def check_groups(value: object) -> tuple[str, ...]:
    """Return the names in their order, each once. Raises ValueError as `check_meta`."""
    if (
        not isinstance(value, list | tuple)
        or len(value) > GROUPS_MAX
        or not all(isinstance(name, str) and re.fullmatch(GROUP_NAME, name) for name in value)
    ):
        raise ValueError(f"must be a list of at most {GROUPS_MAX} names {GROUP_NAME}")
    return tuple(dict.fromkeys(value))


def check_subject(value: object) -> str:
    """Return the subject. Raises ValueError as `check_meta`."""
    if not isinstance(value, str) or not 0 < len(value) <= SUBJECT_MAX or not value.isprintable():
        raise ValueError(f"must be a printable text of 1 to {SUBJECT_MAX} characters")
    return value


def check_close_reason(value: object) -> str:
    """Return the reason of a close. Raises ValueError as `check_meta`."""
    if not isinstance(value, str) or len(value.encode(errors="replace")) > CLOSE_REASON_MAX_BYTES:
        raise ValueError(f"must be a text of at most {CLOSE_REASON_MAX_BYTES} bytes")
    value.encode()  # lone surrogates cannot be sent: UnicodeEncodeError is a ValueError
    return value


def check_close_code(value: object) -> int:
    """Return the code of a close by the backend. Raises ValueError as `check_meta`."""
    if type(value) is not int or not 4000 <= value <= 4999:
        raise ValueError("must be a number from 4000 to 4999")
    return value
