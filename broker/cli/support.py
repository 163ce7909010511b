"""What the commands of `scan-login` share: the settings, and records that are open meanwhile."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from broker.errors import BrokerError
from broker.identity.errors import ProviderUnavailable
from broker.infrastructure.settings import Settings
from broker.infrastructure.settings_sources import PREFIX
from broker.parts import records_of
from broker.pool.errors import PicturesUnavailable
from broker.records.errors import RecordsUnavailable
from broker.records.store import Records
from broker.settings import load_settings

T = TypeVar("T")

DEFAULT_CONFIG_FILE = Path("scan-login.toml")

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar=f"{PREFIX}CONFIG",
        help=f"A TOML file of settings; {DEFAULT_CONFIG_FILE} where there is one.",
        show_default=False,
    ),
]


def settings_file(file: Path | None) -> Path | None:
    return file or (DEFAULT_CONFIG_FILE if DEFAULT_CONFIG_FILE.exists() else None)


def read_settings(file: Path | None, **fixed: object) -> Settings:
    return load_settings(settings_file(file), **fixed)


def with_records(settings: Settings, work: Callable[[Records], Awaitable[T]]) -> T:
    """What `work` makes of open records; a failure ends the command with its sentence."""

    async def main() -> T:
        records = records_of(settings, time.time)
        await records.open()
        try:
            return await work(records)
        finally:
            await records.close()

    try:
        return asyncio.run(main())
    except RecordsUnavailable as error:
        sys.exit(f"the records cannot be reached: {error.reason}")
    except (ProviderUnavailable, PicturesUnavailable) as error:
        sys.exit(error.reason)
    except BrokerError as error:
        sys.exit(str(error))
