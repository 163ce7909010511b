"""Notices about rooms that carry ids and numbers, and never a text."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

import structlog

from broker.chat.model import RoomKey, room_id
from broker.errors import Unavailable
from broker.infrastructure.coordination import Bus, Notice

log = structlog.get_logger()


class SignalKind(StrEnum):
    """The event of a signal's notice. `number` is what the comment says."""

    TYPING = "room-typing"  # 1 for on, 0 for off
    SEEN = "room-seen"  # the offset
    JOINED = "room-joined"  # how many people are online
    LEFT = "room-left"  # how many people are online


class Signal(NamedTuple):
    """Something that members of a room see and that is not stored. It may be lost."""

    kind: SignalKind
    room: RoomKey
    number: int
    subject: str

    def notice(self) -> Notice:
        return Notice(self.kind, f"{room_id(self.room)}/{self.number}/{self.subject}")


def parse_signal(notice: Notice) -> Signal | None:
    """Return the signal of a notice, or None for invalid data."""
    parts = notice.id.split("/", 3)
    if notice.event not in list(SignalKind) or len(parts) != 4 or not parts[2].isdecimal():
        return None
    app, name, number, subject = parts
    return Signal(SignalKind(notice.event), RoomKey(app, name), int(number), subject)


class Notifier:
    """Sends notices to instances. A notice that cannot be sent is logged and lost."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def notify(self, instances: Iterable[str], notice: Notice) -> None:
        for instance in instances:
            try:
                await self._bus.publish(instance, notice)
            except Unavailable:
                log.warning("notice not sent", notice=notice.event)
                return
