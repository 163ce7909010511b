"""Settings of the bus."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from broker.bus import BUSES
from broker.infrastructure.settings import SettingsGroup, server_url


class BusSettings(SettingsGroup):
    bus_url: Annotated[str, server_url(BUSES)] | None = Field(
        None, description="URL of the bus, which carries notices; default: the state's URL"
    )
