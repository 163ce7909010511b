"""Settings of the state."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from broker.infrastructure.settings import InvalidField, SettingsGroup, server_url
from broker.state import STATES


class StateSettings(SettingsGroup):
    state_url: Annotated[str, server_url(STATES)] = Field(
        "memory://", description="storage of logins and sessions"
    )
    replicas: int = Field(
        0,
        ge=0,
        description="replicas that must hold a confirm, a redeem or a use of a grant before it "
        "counts; 0 waits for none",
    )

    @model_validator(mode="after")
    def _check_replicas(self) -> StateSettings:
        scheme = urlsplit(self.state_url).scheme
        if self.replicas and (scheme == "memory" or scheme.endswith("cluster")):
            raise InvalidField("replicas", f"the state {scheme}:// cannot wait for replicas")
        return self
