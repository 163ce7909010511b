"""Settings of chat."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from broker.apps.rules import check_moderators, check_rooms
from broker.infrastructure.settings import Seconds, SettingsGroup, StringList


class ChatSettings(SettingsGroup):
    chat_rooms: Annotated[str, AfterValidator(check_rooms)] = Field(
        "none",
        description="rooms of the app `default`: `none`, `open` to everyone who has logged in, or "
        "the https URL of the webhook that admits people",
    )
    chat_moderators: Annotated[StringList, AfterValidator(check_moderators)] = Field(
        (),
        description="subjects that may moderate every room of the app `default`, separated by "
        "commas",
    )
    chat_session_lifetime: Seconds = Field(
        86_400, le=86_400, description="seconds after its last use that a chat can be resumed"
    )
    chat_history: int = Field(1_000, ge=100, le=10_000, description="messages that a room keeps")
    chat_retention: Seconds = Field(604_800, description="seconds after which a message is deleted")
    chat_says_per_second: int = Field(
        5, ge=1, le=1_000, description="messages per second of one person, on average over 4 s"
    )
