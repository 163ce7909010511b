"""Who is measured: how its servers are started, and what its browsers and phones say.

A candidate is a file here and a line in `CANDIDATES`.  The load asks every
candidate for the same five acts, each in its own dialect: begin, scan, confirm,
hear of it, redeem.  One that has no such act does nothing for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import NamedTuple, Protocol


class Command(NamedTuple):
    """What starts one server.  It prints a line with its URL once it takes connections."""

    arguments: list[str]
    environment: Mapping[str, str]


class WarmUp(NamedTuple):
    """What servers do before they run at their speed: logins for so long, and at least so many."""

    seconds: float
    logins: int


class Pings(NamedTuple):
    """late: seconds after its time that the latest of all came, or is waited for."""

    heard: int
    late: float


class Browser(Protocol):
    """A socket that waits for one login."""

    async def begin(self) -> None:
        """Have a login of its own to wait for; raises Broken."""

    async def confirmed(self) -> float:
        """Wait until it is told of the confirm; time.perf_counter() when that came in."""

    async def redeem(self) -> None:
        """Have the token; raises Broken where there is none."""

    def close(self) -> None:
        """Leave."""

    def drop(self) -> None:
        """Be gone without a word."""

    @property
    def waits(self) -> bool:
        """Whether it is still connected, and has heard nothing yet."""

    @property
    def pings(self) -> Pings:
        """The server's heartbeats so far."""


class Phone(Protocol):
    """A phone that has proved who holds it, and its connection to one server."""

    async def again(self, url: str) -> Phone:
        """The same phone by another connection, to the server at `url`."""

    async def scan(self, browser: Browser) -> None: ...
    async def confirm(self, browser: Browser) -> None: ...
    def close(self) -> None: ...


class Candidate(Protocol):
    """name: as it stands in the tables."""

    name: str
    warm_up: WarmUp

    def command(self, *, redis_url: str, folder: Path) -> Command:
        """One server over the Redis; `folder` is shared by all servers of a run."""

    def beside(self) -> Command | None:
        """A server that a run's servers need, started before them; None where they need none."""

    def versions(self) -> Mapping[str, str]:
        """What it is made of, for the results."""

    async def browser(self, url: str) -> Browser:
        """A browser connected to the server at `url`."""

    async def phone(self, url: str) -> Phone:
        """A phone connected to the server at `url`."""


CANDIDATES: Mapping[str, str] = {
    "broker": "bench.targets.broker:READY",
    "broker-draws": "bench.targets.broker:DRAWS",
    "broker-pooled": "bench.targets.broker:POOLED",
    "broker-wechat": "bench.targets.broker:WECHAT",
    "node": "bench.targets.node:REDIS",
    "node-sharded": "bench.targets.node:SHARDED",
    "stock": "bench.targets.stock:STOCK",
}


def candidate(name: str) -> Candidate:
    found: Candidate = resolve_name(CANDIDATES[name])
    return found
