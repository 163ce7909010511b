"""python-socketio on aiohttp with its Redis manager: the usual start in Python."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from bench.baselines import PICTURE
from bench.protocol import ProtocolTarget
from bench.targets import Command, WarmUp

PACKAGES = ("aiohttp", "python-socketio", "python-engineio", "redis", "hiredis", "PyJWT")


class StockTarget(ProtocolTarget):
    name = "stock"
    warm_up = WarmUp(seconds=3, logins=500)

    def command(self, *, redis_url: str, folder: Path) -> Command:
        environment = {"REDIS_URL": redis_url, "CODE_URL": PICTURE.data_url()}
        return Command([sys.executable, "-m", "bench.baselines.stock"], environment)

    def versions(self) -> Mapping[str, str]:
        return {name: version(name) for name in PACKAGES}


STOCK = StockTarget()
