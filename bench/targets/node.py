"""Node's Socket.IO with its Redis adapters: the baseline of the bars."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.baselines import HERE, PICTURE
from bench.protocol import ProtocolTarget
from bench.targets import Command, WarmUp
from tests.support.environment import need


class NodeTarget(ProtocolTarget):
    """A server on Node. warm_up: V8 optimizes code for a long time."""

    warm_up = WarmUp(seconds=15, logins=4_000)
    packages: Sequence[str] = ("socket.io", "@socket.io/redis-adapter", "redis", "jsonwebtoken")

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
        output = subprocess.run([need("node"), "--version"], capture_output=True, text=True)
        made_of = {f"{name} (npm)": _version(name) for name in self.packages}
        return {"Node": output.stdout.strip().removeprefix("v"), **made_of}


def _version(package: str) -> str:
    manifest = json.loads((HERE / "node_modules" / package / "package.json").read_text())
    return str(manifest["version"])


REDIS = NodeTarget("node", "redis")
SHARDED = NodeTarget("node-sharded", "sharded")
