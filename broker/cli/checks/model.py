"""A check, its result, and the installation that is checked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

import aiohttp

from broker.backends import open_records, open_state_and_bus
from broker.errors import StartupError, Unavailable, failure_reason
from broker.infrastructure.coordination import Bus
from broker.infrastructure.crypto.secret_file import OTHER_USER
from broker.infrastructure.runtime.settings import ServerSettings
from broker.infrastructure.settings import Settings
from broker.infrastructure.settings_sources import FoundValues
from broker.infrastructure.urls import hide_passwords
from broker.records.errors import RecordsUnavailable
from broker.records.store import Records
from broker.state import StateBackend

TIMEOUT = 20.0
"""Seconds for one check."""


class Status(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


class Finding(Exception):
    """A fault. fix: for this reason, instead of the fix of the check."""

    status: Status

    def __init__(self, detail: str, fix: str | None = None) -> None:
        super().__init__(detail)
        self.fix = fix


class Failed(Finding):
    status = Status.FAILED


class Warned(Finding):
    status = Status.WARNING


class Skipped(Finding):
    """The check does not apply to these settings."""

    status = Status.SKIPPED


@dataclass
class Installation:
    """The broker that is checked, from this machine.

    settings: None if they have mistakes.
    stack: closes at the end what the checks have opened.
    """

    found: FoundValues
    mistakes: Sequence[str]
    settings: Settings
    stack: AsyncExitStack
    records: Records | None = None
    results: dict[str, Status] = field(default_factory=dict)

    @property
    def server(self) -> ServerSettings:
        return self.settings[ServerSettings]

    @property
    def public_url(self) -> SplitResult:
        return urlsplit(self.server.public_url)

    @cached_property
    def http(self) -> aiohttp.ClientSession:
        """A client that trusts what this machine trusts."""
        session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT / 2))
        self.stack.push_async_callback(session.close)
        return session

    @cached_property
    def state_and_bus(self) -> tuple[StateBackend, Bus]:
        """State and bus, not yet connected."""
        state, bus = open_state_and_bus(self.settings, None)
        self.stack.push_async_callback(state.close)
        self.stack.push_async_callback(bus.close)
        return state, bus

    @cached_property
    def unopened_records(self) -> Records:
        """The records. They are not open, because that migrates them."""
        records = open_records(self.settings, time.time)
        self.stack.push_async_callback(records.close)
        return records


class Check(NamedTuple):
    """name: `area: subject`.

    fix: for every fault that does not carry its own.
    needs: names of checks without which this one tells nothing.
    """

    name: str
    run: Callable[[Installation], Awaitable[str]]
    fix: str
    needs: tuple[str, ...] = ()


class CheckResult(NamedTuple):
    """fix: what to do; empty if nothing is to be done."""

    check: str
    status: Status
    detail: str
    fix: str = ""


async def run_check(check: Check, installation: Installation) -> CheckResult:
    """Run a check, unless a check that it needs did not pass."""
    missing = next(missing_needs(check, installation.results), None)
    if missing is not None:
        return CheckResult(check.name, Status.SKIPPED, f"needs the check {missing}")
    try:
        async with asyncio.timeout(TIMEOUT):
            return CheckResult(check.name, Status.OK, await check.run(installation))
    except Exception as error:  # each check reports its fault, and the next one runs
        status = error.status if isinstance(error, Finding) else Status.FAILED
        fix = "" if status is Status.SKIPPED else own_fix(error) or check.fix
        return CheckResult(check.name, status, hide_passwords(reason_of(error)), fix)


def reason_of(error: Exception) -> str:
    """Return the cause of an error, without objects of Python and without its remedy."""
    if isinstance(error, StartupError):
        return error.reason
    if isinstance(error, Unavailable):
        return failure_reason(error)
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error.strerror or error.os_error
        return f"cannot connect to {error.host}:{error.port}: {cause}"
    if isinstance(error, TimeoutError):
        return str(error) or "no answer in time"
    return str(error) or type(error).__name__


def own_fix(error: Exception) -> str | None:
    """Return the remedy that an error carries."""
    if isinstance(error, StartupError | RecordsUnavailable):
        return error.remedy
    if isinstance(error, PermissionError):
        return OTHER_USER
    return error.fix if isinstance(error, Finding) else None


def missing_needs(check: Check, results: Mapping[str, Status]) -> Iterator[str]:
    """Yield the needs that have failed or were not run."""
    return (
        name
        for name in check.needs
        if results.get(name, Status.SKIPPED) in (Status.FAILED, Status.SKIPPED)
    )
