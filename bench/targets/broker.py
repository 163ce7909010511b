"""The broker, with each source of codes."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from bench.protocol import ProtocolTarget
from bench.targets import Command, WarmUp
from broker import __version__
from mp_stub.wechat.platform import APPID, SECRET
from tests.support.environment import free_port

LIFETIME = "900"
"""Seconds until a login expires. Longer than a run, so that no login expires."""

NO_LIMIT = "1000000"
"""The whole load comes from one address, so rate limits are disabled."""

WECHAT_PORT = free_port()

POOL = "1000"
"""Pool size."""

NO_SETTINGS: Mapping[str, str] = {}

PACKAGES = ("aiohttp", "python-socketio", "redis", "hiredis")


class BrokerTarget(ProtocolTarget):
    warm_up = WarmUp(seconds=3, logins=500)

    def __init__(
        self,
        name: str,
        program: str = "broker",
        *,
        settings: Mapping[str, str] = NO_SETTINGS,
        support_server: Command | None = None,
    ) -> None:
        self.name = name
        self._program = program
        self._settings = settings
        self._support_server = support_server

    def support_server(self) -> Command | None:
        return self._support_server

    def command(self, *, redis_url: str, folder: Path) -> Command:
        environment = {
            "SCAN_LOGIN_PORT": "0",
            "SCAN_LOGIN_ADMIN_PORT": "0",
            "SCAN_LOGIN_PUBLIC_URL": "http://127.0.0.1",
            "SCAN_LOGIN_STATE_URL": redis_url,
            "SCAN_LOGIN_KEY_FILE": str(folder / "keys.json"),
            "SCAN_LOGIN_SEAL_FILE": str(folder / "seal.json"),
            "SCAN_LOGIN_RECORDS_URL": f"sqlite+aiosqlite:///{folder}/records.db",
            "SCAN_LOGIN_LOGIN_LIFETIME": LIFETIME,
            "SCAN_LOGIN_BEGINS_PER_MINUTE": NO_LIMIT,
            "SCAN_LOGIN_MISSES_PER_MINUTE": NO_LIMIT,
            "SCAN_LOGIN_SOCKET_PACKETS_PER_MINUTE": NO_LIMIT,
            "SCAN_LOGIN_ADDRESS_PACKETS_PER_MINUTE": "1000000000",
            "SCAN_LOGIN_POLLING_SESSIONS_PER_ADDRESS": NO_LIMIT,
            "SCAN_LOGIN_LOG_LEVEL": "warning",
            **{f"SCAN_LOGIN_{name}": value for name, value in self._settings.items()},
        }
        return Command([sys.executable, "-m", self._program, "serve"], environment)

    def versions(self) -> Mapping[str, str]:
        return {"broker": __version__, **{name: version(name) for name in PACKAGES}}


READY = BrokerTarget("broker", "bench.baselines.ready")
DRAWS = BrokerTarget("broker-draws")
POOLED = BrokerTarget(
    "broker-pooled",
    settings={
        "CODE_SOURCE": "pool",
        "POOL_SIZE": POOL,
        "POOL_MAX": POOL,
        "POOL_PER_MINUTE": "4500",
    },
)
WECHAT = BrokerTarget(
    "broker-wechat",
    settings={
        "PROVIDER": "wechat",
        "WECHAT_APPID": APPID,
        "WECHAT_SECRET": SECRET,
        "WECHAT_API_URL": f"http://127.0.0.1:{WECHAT_PORT}",
    },
    support_server=Command([sys.executable, "-m", "bench.baselines.wechat", str(WECHAT_PORT)], {}),
)
