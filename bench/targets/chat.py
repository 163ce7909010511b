"""Chat servers: the broker, and Socket.IO on Node that stores messages with the same script."""

from __future__ import annotations

import json
from collections.abc import Mapping

from bench.targets import WarmUp
from bench.targets.broker import BrokerTarget
from bench.targets.peers import PeerTarget
from broker.state.redis.chat_rooms import APPEND

WARM_UP = WarmUp(seconds=12, logins=0)


class BrokerChat(BrokerTarget):
    warm_up = WARM_UP


class NodeChat(PeerTarget):
    warm_up = WARM_UP
    server = "chat.js"
    packages = ("socket.io", "@socket.io/redis-adapter", "redis")

    def environment(self) -> Mapping[str, str]:
        return {"SCRIPTS": json.dumps({"append": APPEND.text})}


BROKER = BrokerChat("broker-chat", settings={"CHAT_ROOMS": "open"})
NODE = NodeChat("node-chat")
