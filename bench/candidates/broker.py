"""This broker, by where its codes come from."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from bench.candidates import Command, WarmUp
from bench.protocol import SpeaksProtocol
from broker import __version__
from mp_stub.wechat.platform import APPID, SECRET
from tests.machine import free_port

LIFETIME = "900"
"""Seconds that a code lives: longer than a run, so that none ends in the middle."""

NO_LIMIT = "1000000"
"""The whole load comes from one address."""

WECHAT_PORT = free_port()

MADE_OF = ("aiohttp", "python-socketio", "redis", "hiredis")


class BrokerCandidate(SpeaksProtocol):
    warm_up = WarmUp(seconds=3, logins=500)

    def __init__(self, name: str, program: str) -> None:
        self.name = name
        self._program = program

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
            "SCAN_LOGIN_LOG_LEVEL": "warning",
        }
        return Command([sys.executable, "-m", self._program, "serve"], environment)

    def versions(self) -> Mapping[str, str]:
        return {"broker": __version__, **{name: version(name) for name in MADE_OF}}


class OverWeChat(BrokerCandidate):
    """With the provider wechat, and a pretend WeChat beside it."""

    def command(self, *, redis_url: str, folder: Path) -> Command:
        command = super().command(redis_url=redis_url, folder=folder)
        wechat = {
            "SCAN_LOGIN_PROVIDER": "wechat",
            "SCAN_LOGIN_WECHAT_APPID": APPID,
            "SCAN_LOGIN_WECHAT_SECRET": SECRET,
            "SCAN_LOGIN_WECHAT_API_URL": f"http://127.0.0.1:{WECHAT_PORT}",
        }
        return command._replace(environment={**command.environment, **wechat})

    def beside(self) -> Command:
        return Command([sys.executable, "-m", "bench.peers.wechat", str(WECHAT_PORT)], {})


READY = BrokerCandidate("broker", "bench.peers.ready")
DRAWS = BrokerCandidate("broker-draws", "broker")
POOLED = BrokerCandidate("broker-pooled", "bench.peers.pooled")
WECHAT = OverWeChat("broker-wechat", "broker")
