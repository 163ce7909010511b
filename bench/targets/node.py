"""Node's Socket.IO with its Redis adapters, the peer that the bars are set by."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

from bench.baselines import HERE, PICTURE
from bench.protocol import SpeaksProtocol
from bench.targets import Command, WarmUp
from tests.support.environment import need

MADE_OF = ("socket.io", "@socket.io/redis-adapter", "redis", "jsonwebtoken")


class NodeCandidate(SpeaksProtocol):
    """warm_up: V8 goes on making its code faster for long."""

    warm_up = WarmUp(seconds=15, logins=4_000)

    def __init__(self, name: str, adapter: str) -> None:
        self.name = name
        self._adapter = adapter

    def command(self, *, redis_url: str, folder: Path) -> Command:
        environment = {
            "REDIS_URL": redis_url,
            "ADAPTER": self._adapter,
            "CODE_URL": PICTURE.data_url(),
        }
        return Command([need("node"), str(HERE / "server.js")], environment)

    def versions(self) -> Mapping[str, str]:
        said = subprocess.run([need("node"), "--version"], capture_output=True, text=True)
        made_of = {f"{name} (npm)": _version(name) for name in MADE_OF}
        return {"Node": said.stdout.strip().removeprefix("v"), **made_of}


def _version(package: str) -> str:
    described = json.loads((HERE / "node_modules" / package / "package.json").read_text())
    return str(described["version"])


REDIS = NodeCandidate("node", "redis")
SHARDED = NodeCandidate("node-sharded", "sharded")
