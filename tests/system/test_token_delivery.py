"""The token of a confirmed login reaches its browser despite reset connections.

tests/chaos/test_delivery.py covers all deployments.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.broken_links import Deployment, check_that_resets_lose_no_token, deployed
from tests.support.builders import StartBroker
from tests.support.servers.redis import Engines

DEPLOYMENTS = [
    Deployment("memory", 1, "own", nginx=False),
    Deployment("memory", 1, "stock", nginx=True),
    Deployment("redis", 1, "stock", nginx=False),
    Deployment("redis", 2, "own", nginx=False),
    Deployment("redis", 2, "own", nginx=True),
]


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=str)
async def test_reset_connections_lose_no_token(
    deployment: Deployment, start_broker: StartBroker, engines: Engines, tmp_path: Path
) -> None:
    async with deployed(deployment, start_broker, engines, tmp_path) as urls:
        await check_that_resets_lose_no_token(urls, logins=8, seed=4)
