"""Settings of the pools of codes."""

from __future__ import annotations

from pydantic import Field, model_validator

from broker.infrastructure.settings import InvalidField, Seconds, SettingsGroup
from broker.infrastructure.settings_sources import PREFIX


class PoolSettings(SettingsGroup):
    pool_size: int = Field(
        100,
        ge=1,
        le=100_000,
        description="minimum number of codes in a pool; the pool grows with demand",
    )
    pool_max: int = Field(10_000, ge=1, le=100_000, description="maximum number of codes in a pool")
    pool_rest: Seconds = Field(600, description="cooldown of a code between two logins, in seconds")
    pool_uses: int = Field(
        100, gt=0, description="logins after which a code of the pool is replaced"
    )
    pool_age: int = Field(
        7_776_000,
        ge=0,
        description="seconds after which a code of the pool is replaced; 0: never",
    )
    pool_per_minute: int = Field(
        1500,
        gt=0,
        le=4500,
        description="codes drawn per minute for a pool that needs codes; WeChat allows a mini "
        "program 5 000, for all its pools and live codes together",
    )

    @model_validator(mode="after")
    def _check_sizes(self) -> PoolSettings:
        if self.pool_max < self.pool_size:
            raise InvalidField("pool_max", f"use at least {PREFIX}POOL_SIZE, {self.pool_size}")
        return self
