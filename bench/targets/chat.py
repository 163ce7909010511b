"""Chat servers: the broker, and Socket.IO on Node that stores messages with the same script."""

from __future__ import annotations

import json
from pathlib import Path

from bench.baselines import HERE
from bench.targets import Command, WarmUp
from bench.targets.broker import BrokerTarget
from bench.targets.node import NodeTarget
from broker.state.redis.chat_rooms import APPEND
from tests.support.environment import need

WARM_UP = WarmUp(seconds=12, logins=0)


class BrokerChat(BrokerTarget):
    warm_up = WARM_UP


class NodeChat(NodeTarget):
    warm_up = WARM_UP
    packages = ("socket.io", "@socket.io/redis-adapter", "redis")

    def __init__(self, name: str) -> None:
        self.name = name

    def command(self, *, redis_url: str, folder: Path) -> Command:
        environment = {"REDIS_URL": redis_url, "SCRIPTS": json.dumps({"append": APPEND.text})}
        return Command([need("node"), str(HERE / "chat.js")], environment)


BROKER = BrokerChat("broker-chat", settings={"CHAT_ROOMS": "open"})
NODE = NodeChat("node-chat")
