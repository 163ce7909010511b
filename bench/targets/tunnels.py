"""Servers that hold tunnels: the broker, and `ws` on Node with the same Redis scripts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Protocol

from bench.targets import Target, WarmUp
from bench.targets.broker import NO_LIMIT, BrokerTarget
from bench.targets.peers import PeerTarget
from broker.state.redis.tunnel_inbox import NUMBER
from broker.state.redis.tunnel_streams import APPEND, READ
from broker.state.redis.tunnels import CHANGE
from tests.support.app_admin import TOKEN
from tests.support.environment import free_port
from tests.support.webhook import SECRET

IDLE_TIMEOUT = "3600"
"""Seconds after which a broker drops a silent client: longer than a run, so no ping is needed."""

SCRIPTS = {"change": CHANGE, "number": NUMBER, "append": APPEND, "read": READ}


class TunnelTarget(Target, Protocol):
    """callback_port: of 127.0.0.1, to which its servers send the callbacks."""

    callback_port: int


def callback_url(port: int) -> str:
    return f"http://127.0.0.1:{port}/callbacks"


def broker_settings(port: int) -> Mapping[str, str]:
    """Return the settings of a broker with a backend at this port."""
    return {
        "ADMIN_TOKEN": TOKEN,
        "TUNNEL_URL": callback_url(port),
        "TUNNEL_IDLE_TIMEOUT": IDLE_TIMEOUT,
        "TUNNEL_MAX": NO_LIMIT,
        "TUNNEL_MESSAGES_PER_SECOND": NO_LIMIT,
        "WEBHOOK_SECRET": SECRET,
        "WEBHOOKS_PRIVATE": "true",
    }


class BrokerTunnels(BrokerTarget):
    warm_up = WarmUp(seconds=12, logins=0)

    def __init__(self, name: str) -> None:
        self.callback_port = free_port()
        super().__init__(name, settings=broker_settings(self.callback_port))


class NodeTunnels(PeerTarget):
    warm_up = WarmUp(seconds=12, logins=0)
    server = "tunnel.js"
    packages = ("ws", "redis")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.callback_port = free_port()

    def environment(self) -> Mapping[str, str]:
        return {
            "SCRIPTS": json.dumps({name: script.text for name, script in SCRIPTS.items()}),
            "CALLBACK_URL": callback_url(self.callback_port),
            "SECRET": SECRET,
            "TOKEN": TOKEN,
        }


BROKER = BrokerTunnels("broker-tunnel")
NODE = NodeTunnels("node-tunnel")
