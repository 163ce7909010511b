"""Socket.IO on Node and on Bun, with the Redis adapters: the peers of the bars."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.baselines import HERE, PICTURE
from bench.protocol import ProtocolTarget
from bench.targets import Command, WarmUp
from tests.support.environment import need


class Runtime(NamedTuple):
    """A JavaScript runtime. name: as in the results. program: returns its path."""

    name: str
    program: Callable[[], str]


NODE = Runtime("Node", lambda: need("node"))
BUN = Runtime("Bun", lambda: str(HERE / "node_modules" / ".bin" / "bun"))


class PeerTarget(ProtocolTarget):
    """A server of bench/baselines. warm_up: V8 and JavaScriptCore optimize code for a long time."""

    warm_up = WarmUp(seconds=15, logins=4_000)
    runtime = NODE
    server: str
    packages: Sequence[str]

    def __init__(self, name: str) -> None:
        self.name = name

    def environment(self) -> Mapping[str, str]:
        """The variables of the server besides REDIS_URL."""
        return {}

    def command(self, *, redis_url: str, folder: Path) -> Command:
        environment = {"REDIS_URL": redis_url, **self.environment()}
        return Command([self.runtime.program(), str(HERE / self.server)], environment)

    def versions(self) -> Mapping[str, str]:
        output = subprocess.run(
            [self.runtime.program(), "--version"], capture_output=True, text=True
        )
        made_of = {f"{name} (npm)": _version(name) for name in self.packages}
        return {self.runtime.name: output.stdout.strip().removeprefix("v"), **made_of}


class LoginPeer(PeerTarget):
    """A login server with the API of Node."""

    server = "server.js"
    packages: Sequence[str] = ("socket.io", "@socket.io/redis-adapter", "redis", "jsonwebtoken")

    def __init__(self, name: str, adapter: str = "redis", runtime: Runtime = NODE) -> None:
        super().__init__(name)
        self.runtime = runtime
        self._adapter = adapter

    def environment(self) -> Mapping[str, str]:
        return {"ADAPTER": self._adapter, "CODE_URL": PICTURE.data_url()}


class BunEnginePeer(LoginPeer):
    """A login server with the API of Bun."""

    server = "bun_server.js"
    packages = (*LoginPeer.packages, "@socket.io/bun-engine")


def _version(package: str) -> str:
    manifest = json.loads((HERE / "node_modules" / package / "package.json").read_text())
    return str(manifest["version"])


NODE_REDIS = LoginPeer("node")
NODE_SHARDED = LoginPeer("node-sharded", adapter="sharded")
BUN_ENGINE = BunEnginePeer("bun", runtime=BUN)
BUN_WS = LoginPeer("bun-ws", runtime=BUN)
