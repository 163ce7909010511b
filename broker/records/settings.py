"""Settings of the records: their database, and the keys of encrypted secrets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, model_validator

from broker.infrastructure.crypto.sealing import parse_key
from broker.infrastructure.settings import (
    InvalidField,
    Seconds,
    SecretList,
    SettingsGroup,
    list_schemes,
)
from broker.infrastructure.settings_sources import PREFIX
from broker.infrastructure.urls import check_server_url
from broker.records import SCHEMES, is_records_url


def check_records_url(value: str) -> str:
    if not value.startswith("sqlite"):
        check_server_url(value)
    if not is_records_url(value):
        raise ValueError(
            f"use a URL that begins with one of {list_schemes(SCHEMES)}, "
            "and for SQLite a file: sqlite+aiosqlite:///scan-login.db"
        )
    return value


def check_seal_keys(value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    for key in value:
        parse_key(key.get_secret_value())
    return value


class RecordsSettings(SettingsGroup):
    records_url: Annotated[str, AfterValidator(check_records_url)] = Field(
        "sqlite+aiosqlite:///scan-login.db", description="database of apps and users"
    )
    records_pgbouncer: bool = Field(
        False,
        description="PostgreSQL is behind PgBouncer in transaction mode: keep no prepared "
        "statements",
    )
    seal_keys: Annotated[SecretList, AfterValidator(check_seal_keys)] = Field(
        (),
        description="keys that encrypt apps' secrets, newest first, each 32 bytes in base64; "
        "default: the keys in the seal file",
    )
    seal_file: Path = Field(
        Path("scan-login-seal.json"),
        description="file with the keys that encrypt apps' secrets; created at the first start",
    )
    trail_lifetime: Seconds = Field(
        7_776_000, description="seconds for which the audit log keeps an ended login"
    )

    @model_validator(mode="after")
    def _check_pgbouncer(self) -> RecordsSettings:
        if self.records_pgbouncer and self.records_url.startswith("sqlite"):
            raise InvalidField(
                "records_pgbouncer",
                f"the records are in a SQLite file: remove it, or set {PREFIX}RECORDS_URL",
            )
        return self
