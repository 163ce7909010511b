"""Fixtures of the conformance tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import structlog

from broker.blobs.pictures import ObjectPictureStore
from broker.pool.filler import PoolFiller
from broker.records.database import Database
from broker.records.pool_codes import SqlCodeStore
from tests.support.builders import Clock
from tests.support.pool import FAST, PUBLIC, CountingProvider, Fill
from tests.support.pool_cluster import RECORDS_OF_STATE, Cluster, LogLines
from tests.support.records import database_of
from tests.support.servers.redis import Engines


@pytest.fixture(autouse=True)
def _redis_may_be_late(long_redis_limits: None) -> None:
    """No conformance test measures when Redis counts as lost."""


@pytest.fixture
def statement_timeout() -> float:
    """Enough for a busy machine. A test about a locked database has a shorter one."""
    return 60.0


@pytest.fixture
async def database(records_url: str, statement_timeout: float) -> AsyncIterator[Database]:
    database = Database(records_url, statement_timeout=statement_timeout)
    yield database
    await database.close()


@pytest.fixture
def codes(database: Database, clock: Clock) -> SqlCodeStore:
    return SqlCodeStore(database, clock=clock)


@pytest.fixture
def folder(tmp_path: Path) -> ObjectPictureStore:
    return ObjectPictureStore((tmp_path / "pictures").as_uri(), public_url=PUBLIC)


@pytest.fixture
def provider() -> CountingProvider:
    return CountingProvider()


@pytest.fixture
def make_filler(
    codes: SqlCodeStore, folder: ObjectPictureStore, provider: CountingProvider
) -> Fill:
    """Create a filler of ten codes. Keyword arguments replace its arguments."""

    def make(**parts: object) -> PoolFiller:
        fields = {
            "provider": provider,
            "codes": codes,
            "pictures": folder,
            "app": "shop",
            "count": 10,
            "per_minute": FAST,
            "retry_delays": (0.0,) * 3,
        }
        return PoolFiller(**{**fields, **parts})  # type: ignore[arg-type]

    return make


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
