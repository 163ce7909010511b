"""The targets: how to start their servers, and their browsers and phones.

A target is a file here and a line in `TARGETS`. The load generator uses the same
operations for all targets: begin, scan, confirm, wait for the push, redeem. A target
without one of these operations does nothing for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import NamedTuple, Protocol


class Command(NamedTuple):
    """The command of one server. The server prints a line with its URL when it is ready."""

    arguments: list[str]
    environment: Mapping[str, str]


class WarmUp(NamedTuple):
    """The warm-up of servers: logins for `seconds`, and at least `login_counter` of them."""

    seconds: float
    logins: int


class Pings(NamedTuple):
    """PINGs of a socket. max_delay: seconds; an overdue PING counts too."""

    received: int
    max_delay: float


class Browser(Protocol):
    """A browser with one socket and one login."""

    async def begin(self) -> None:
        """Begin a login. Raises ProtocolError."""

    async def wait_until_confirmed(self) -> float:
        """Wait for the push of the confirm. Returns the time.perf_counter() of its arrival."""

    async def redeem(self) -> None:
        """Redeem the login. Raises ProtocolError if there is no token."""

    def close(self) -> None:
        """Disconnect and close."""

    def drop(self) -> None:
        """Close the TCP connection without a close frame."""

    @property
    def is_waiting(self) -> bool:
        """Whether it is connected and its login is not confirmed."""

    @property
    def pings(self) -> Pings:
        """The PINGs of the server so far."""


class Phone(Protocol):
    """A phone with a session, and its connection to one server."""

    async def reconnect(self, url: str) -> Phone:
        """The same phone and session over a new connection to the server at `url`."""

    async def scan(self, browser: Browser) -> None: ...
    async def confirm(self, browser: Browser) -> None: ...
    def close(self) -> None: ...


class Target(Protocol):
    """A kind of server under test. name: its name in the tables."""

    name: str
    warm_up: WarmUp

    def command(self, *, redis_url: str, folder: Path) -> Command:
        """The command of one server with this Redis. All servers of a run share `folder`."""

    def support_server(self) -> Command | None:
        """A server that must start first, such as a WeChat stub. None if there is none."""

    def versions(self) -> Mapping[str, str]:
        """Names and versions of its packages, for the results."""

    async def browser(self, url: str) -> Browser:
        """A browser connected to the server at `url`."""

    async def phone(self, url: str) -> Phone:
        """A phone connected to the server at `url`."""


TARGETS: Mapping[str, str] = {
    "broker": "bench.targets.broker:READY",
    "broker-draws": "bench.targets.broker:DRAWS",
    "broker-pooled": "bench.targets.broker:POOLED",
    "broker-wechat": "bench.targets.broker:WECHAT",
    "broker-counted": "bench.targets.counted:COUNTED",
    "node": "bench.targets.peers:NODE_REDIS",
    "node-sharded": "bench.targets.peers:NODE_SHARDED",
    "bun": "bench.targets.peers:BUN_ENGINE",
    "bun-ws": "bench.targets.peers:BUN_WS",
    "stock": "bench.targets.stock:STOCK",
    "broker-oidc": "bench.targets.oidc:RS256",
    "broker-oidc-es256": "bench.targets.oidc:ES256",
    "oidc-provider": "bench.targets.oidc:PROVIDER",
    "broker-tunnel": "bench.targets.tunnels:BROKER",
    "node-tunnel": "bench.targets.tunnels:NODE",
    "broker-chat": "bench.targets.chat:BROKER",
    "node-chat": "bench.targets.chat:NODE",
}


def load_target(name: str) -> Target:
    found: Target = resolve_name(TARGETS[name])
    return found
