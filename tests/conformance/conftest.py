"""Fixtures of the conformance tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import structlog

from broker.blobs.pictures import ObjectPictureStore
from tests.support.pool import PUBLIC
from tests.support.pool_cluster import RECORDS_OF_STATE, Cluster, LogLines
from tests.support.records import database_of
from tests.support.servers.redis import Engines


@pytest.fixture(params=RECORDS_OF_STATE)
def cluster_state(request: pytest.FixtureRequest, engines: Engines) -> str:
    engines.empty(request.param)
    return str(request.param)


@pytest.fixture
def cluster_records(cluster_state: str, request: pytest.FixtureRequest) -> str:
    return database_of(RECORDS_OF_STATE[cluster_state], request)


@pytest.fixture
async def cluster(
    cluster_state: str, engines: Engines, cluster_records: str, tmp_path: Path
) -> AsyncIterator[Cluster]:
    folder = ObjectPictureStore((tmp_path / "pictures").as_uri(), public_url=PUBLIC)
    url = engines.url(cluster_state)
    async with AsyncExitStack() as stack:
        yield Cluster(
            engine=cluster_state, url=url, records=cluster_records, pictures=folder, stack=stack
        )


@pytest.fixture
def log_lines() -> Iterator[LogLines]:
    with structlog.testing.capture_logs() as captured:
        yield LogLines(captured)
