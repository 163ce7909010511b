"""Connections are reset during token delivery, on every transport and deployment."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.infrastructure.transport.settings import ENGINES
from tests.support.broken_links import Deployment, check_that_resets_lose_no_token, deployed
from tests.support.builders import StartBroker
from tests.support.servers.redis import Engines

DEPLOYMENTS = [
    Deployment(state, instances, engine, nginx)
    for state, instances in [("memory", 1), ("redis", 1), ("redis", 2)]
    for engine in ENGINES
    for nginx in (False, True)
]


@pytest.mark.chaos_long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=str)
async def test_many_reset_connections_lose_no_token(
    deployment: Deployment, start_broker: StartBroker, engines: Engines, tmp_path: Path
) -> None:
    async with deployed(deployment, start_broker, engines, tmp_path) as urls:
        await check_that_resets_lose_no_token(urls, logins=100, seed=1308)
