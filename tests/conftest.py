"""Shared fixtures: a clock that tests set, services in memory, a broker on a free port."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
import stamina
import structlog
from aiohttp.web_protocol import RequestHandler
from hypothesis import HealthCheck, settings
from jwt.algorithms import RSAAlgorithm

from broker.app import build
from broker.apps.model import App
from broker.apps.registry import AppRegistry
from broker.blobs.pictures import ObjectPictureStore
from broker.bus import open_bus
from broker.bus import redis as redis_bus
from broker.directories.open import OpenDirectory
from broker.identity.ports import Directory
from broker.infrastructure.coordination import Bus
from broker.infrastructure.redis import cluster as redis_cluster
from broker.infrastructure.redis import connection as redis_connection
from broker.infrastructure.redis import reconnector, subscription, urls
from broker.infrastructure.runtime.server import Site, serve_sites
from broker.infrastructure.settings_sources import PREFIX
from broker.infrastructure.transport.settings import ENGINES
from broker.login.ports import LoginPolicy
from broker.login.services import LoginDependencies, create_login_services
from broker.records.database import Database
from broker.settings import load_settings
from broker.state import StateBackend, open_state
from broker.tokens.issuer import TokenIssuer
from broker.tokens.keys import ID_TOKEN_ALGORITHMS, SigningKeyFile, open_key_rings
from tests.support.builders import (
    NO_REQUESTS,
    OTHER,
    SHOP,
    Clock,
    LoginMethods,
    RecordingAuditLog,
    RunningBroker,
    StartBroker,
    codes_of,
)
from tests.support.environment import CI, free_port
from tests.support.loop_clock import LoopClock, replaced_clock
from tests.support.records import database_of
from tests.support.servers.postgres import PostgresServer, running_postgres
from tests.support.servers.redis import Engines
from tests.support.servers.s3 import S3Server, running_s3
from tests.support.waiting import eventually

DEMO = {
    *("HOST", "PORT", "SITE_PORT", "PHONE_PORT", "WECHAT_PORT", "GATEWAY_PORT"),
    "ADMIN_PORT",
    *("PROVIDER", "POOL", "OIDC"),
}
"""The environment variables of `scan-login demo`."""


RSA_MEMBERS = ("kty", "n", "e", "d", "p", "q", "dp", "dq", "qi", "oth")
"""The members of a JWK that PyJWT reads (RFC 7518, section 6.3)."""

RECORDS = ["sqlite", "postgresql"]
PICTURES = ["folder", "s3"]

if TYPE_CHECKING:
    from playwright.async_api import Browser

ENGINE = f"{PREFIX}ENGINE"

settings.register_profile("any load", deadline=None, suppress_health_check=[HealthCheck.too_slow])
if not CI:  # in CI, Hypothesis has such a profile itself
    settings.load_profile("any load")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--engine", choices=ENGINES, help="the engine of Socket.IO in every broker")


def pytest_configure(config: pytest.Config) -> None:
    """Set the engine in the environment, so that brokers in other processes use it too."""
    os.environ.pop(ENGINE, None)
    if engine := config.getoption("--engine"):
        os.environ[ENGINE] = engine


@pytest.fixture(autouse=True)
def _no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in {*os.environ} - {ENGINE}:
        if name.startswith((PREFIX, "AWS_")) or name in DEMO:
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _retries_without_delay() -> Iterator[None]:
    with stamina.set_testing(True, attempts=3, cap=True):
        yield


@pytest.fixture(autouse=True)
def _unchanged_log_configuration(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command in this process configures the log. Without this, loggers would keep that."""
    configure = structlog.configure

    def configure_for_now(**options: object) -> None:
        configure(**{**options, "cache_logger_on_first_use": False})  # type: ignore[arg-type]

    monkeypatch.setattr(structlog, "configure", configure_for_now)
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session", autouse=True)
def _rsa_keys_are_parsed_once() -> Iterator[None]:
    """Parsing a private RSA key takes 40 ms, and each broker parses three of its key file."""
    parsed: dict[str, object] = {}
    parse = RSAAlgorithm.from_jwk

    def from_jwk(jwk: object) -> object:
        if not isinstance(jwk, dict) or "d" not in jwk:
            return parse(jwk)  # type: ignore[arg-type]
        text = json.dumps([jwk.get(member) for member in RSA_MEMBERS])
        if text not in parsed:
            parsed[text] = parse(jwk)
        return parsed[text]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RSAAlgorithm, "from_jwk", staticmethod(from_jwk))
        yield


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def loop_clock() -> AsyncIterator[LoopClock]:
    """The clock of the event loop. It runs, and a test can move it forward."""
    with replaced_clock(runs=True) as clock:
        yield clock


@pytest.fixture
async def still_clock() -> AsyncIterator[LoopClock]:
    """The clock of the event loop. It moves only when a test moves it."""
    with replaced_clock(runs=False) as clock:
        yield clock


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> bytearray:
    """The bytes that aiohttp has received in servers of this process."""
    received = bytearray()
    receive = RequestHandler.data_received

    def data_received(self: RequestHandler, data: bytes) -> None:
        receive(self, data)
        received.extend(data)

    monkeypatch.setattr(RequestHandler, "data_received", data_received)
    return received


@pytest.fixture
def long_wechat_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider wechat waits long enough for the simulator on a busy machine."""
    monkeypatch.setattr("broker.providers.wechat.provider.TOTAL_TIMEOUT", 60.0)
    for limit in ("CONNECT_TIMEOUT", "RESPONSE_TIMEOUT"):
        monkeypatch.setattr(f"broker.providers.wechat.client.{limit}", 60.0)


@pytest.fixture
def _function_scoped_runner(request: pytest.FixtureRequest) -> asyncio.Runner:
    """Run all tests with Chromium in one event loop, and each other test in a new loop.

    This replaces a fixture of pytest-asyncio. A connection to Chromium belongs to its loop, and
    Playwright takes 0.6 s of CPU to connect, which is more than most tests do.
    """
    scope = "session" if "chromium" in request.fixturenames else "function"
    runner: asyncio.Runner = request.getfixturevalue(f"_{scope}_scoped_runner")
    return runner


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_chromium() -> AsyncIterator[Browser]:
    from tests.support.servers.chromium import running_chromium

    async with running_chromium() as browser:
        yield browser


@pytest.fixture
async def chromium(shared_chromium: Browser) -> AsyncIterator[Browser]:
    """The Chromium of this process. Its contexts are closed at the end of the test."""
    yield shared_chromium
    for context in shared_chromium.contexts:
        await context.close()


@pytest.fixture(scope="session")
def engines() -> Iterator[Engines]:
    engines = Engines()
    yield engines
    engines.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.fixture
def stoppable_postgres(postgres: PostgresServer) -> Iterator[PostgresServer]:
    """A PostgreSQL server that a test may stop or pause."""
    yield postgres
    postgres.revive()


@pytest.fixture(params=RECORDS)
def bare_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/bare.db"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture(scope="session")
def postgres_template(postgres: PostgresServer) -> str:
    """The name of a database with all tables and no rows."""
    url = postgres.new_database()
    migrate(url)
    return url.rpartition("/")[2]


@pytest.fixture(params=RECORDS)
def records_url(request: pytest.FixtureRequest) -> str:
    """The URL of a database of each kind, with all tables and no rows."""
    return database_of(request.param, request)


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    with running_s3() as server:
        server.make_bucket("pictures")
        yield server


@pytest.fixture(params=PICTURES)
def pictures(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ObjectPictureStore:
    """A picture store of each kind."""
    if request.param == "folder":
        return ObjectPictureStore(
            (tmp_path / "pictures").as_uri(), public_url="https://cdn.example/codes"
        )
    server: S3Server = request.getfixturevalue("s3")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    return ObjectPictureStore(
        f"s3://pictures/{tmp_path.name}",
        public_url="https://cdn.example/codes",
        endpoint=server.url,
    )


@pytest.fixture
async def store(clock: Clock) -> AsyncIterator[StateBackend]:
    store = open_state("memory://", clock)
    yield store
    await store.close()


@pytest.fixture
async def bus() -> AsyncIterator[Bus]:
    bus = open_bus("memory://")
    yield bus
    await bus.close()


@pytest.fixture
def issuer(tmp_path: Path, clock: Clock) -> TokenIssuer:
    return TokenIssuer(
        file=SigningKeyFile(tmp_path / "keys.json"),
        algorithm="ES256",
        issuer="https://login.example",
        lifetime=600,
        host_clock=clock,
    )


@pytest.fixture
def trail() -> RecordingAuditLog:
    return RecordingAuditLog()


@pytest.fixture
def long_redis_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Redis accept connections, reply and send heartbeats late.

    Hundreds of simultaneous commands take time on a busy machine.
    """
    for module in (redis_cluster, reconnector, subscription, urls):
        monkeypatch.setattr(module, "REPLY_TIMEOUT", 60)
    monkeypatch.setattr(redis_connection, "CONNECT_TIMEOUT", 60.0)
    monkeypatch.setattr(redis_bus, "HEARTBEAT_TIMEOUT", 60.0)


@pytest.fixture
def make_login_service(
    store: StateBackend, bus: Bus, issuer: TokenIssuer, clock: Clock, trail: RecordingAuditLog
) -> Callable[..., LoginMethods]:
    """Create a login service over the store and bus of the test, by default at instance `one`."""

    def make(
        *,
        instance: str = "one",
        directory: Directory | None = None,
        bus: Bus = bus,
        apps: Sequence[App] = (SHOP, OTHER),
        issuer: TokenIssuer = issuer,
        policy: LoginPolicy | None = None,
    ) -> LoginMethods:
        known = AppRegistry(apps)
        services = create_login_services(
            LoginDependencies(
                logins=store.logins,
                user_codes=store.user_codes,
                bus=bus,
                apps=known,
                audit_log=trail,
                codes=codes_of(store, known),
                directory=directory or OpenDirectory(),
                profiles=directory or OpenDirectory(),
                requests=NO_REQUESTS,
                policy=policy,
                issuer=issuer,
                clock=clock,
                instance=instance,
                lifetime=120,
                register_lifetime=600,
                scans_max=3,
            )
        )
        return LoginMethods(services)

    return make


@pytest.fixture
def login_service(make_login_service: Callable[..., LoginMethods]) -> LoginMethods:
    return make_login_service()


@pytest.fixture(scope="session")
def empty_records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with all tables and no rows. Tests copy it, because migrations are slow."""
    file = tmp_path_factory.mktemp("records") / "records.db"
    migrate(f"sqlite+aiosqlite:///{file}")
    return file


def migrate(url: str) -> None:
    with asyncio.Runner() as runner:
        database = Database(url)
        runner.run(database.migrate())
        runner.run(database.close())


@pytest.fixture
def records_file(empty_records: Path, tmp_path: Path) -> Path:
    """The SQLite file for the records of the brokers of a test, by default."""
    return Path(shutil.copy(empty_records, tmp_path))


@pytest.fixture(scope="session")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key file with all rings: an RSA key takes a tenth of a second."""
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    open_key_rings(SigningKeyFile(path), ["ES256", *ID_TOKEN_ALGORITHMS], 0)
    return path


@pytest.fixture
async def start_broker(
    tmp_path: Path, records_file: Path, key_file: Path
) -> AsyncIterator[StartBroker]:
    """Start a broker on a free port; settings, `directory` and `clock` by keyword.

    Returns once the broker is ready, or at once if `ready` is false.
    """
    async with AsyncExitStack() as stack:

        async def start(
            directory: Directory | str | None = None,
            clock: Callable[[], float] | None = None,
            ready: bool = True,
            **changes: object,
        ) -> RunningBroker:
            port = free_port()
            named = {"directory": directory} if isinstance(directory, str) else {}
            values: dict[str, object] = {
                "port": port,
                "public_url": f"http://127.0.0.1:{port}",
                "key_file": shutil.copy(key_file, tmp_path / f"keys-{port}.json"),
                "records_url": f"sqlite+aiosqlite:///{records_file}",
                "seal_file": tmp_path / "seal.json",
                "phone_page_url": "http://127.0.0.1:8090/",
                **named,
                **changes,
            }
            settings = load_settings(None, **values)
            given = None if isinstance(directory, str) else directory
            broker = build(settings, clock=clock, directory=given)
            admin_port = changes.get("admin_port", 0)
            assert isinstance(admin_port, int)
            sites = [
                Site("broker", broker.public, "127.0.0.1", port, "PORT"),
                Site("admin", broker.admin, "127.0.0.1", admin_port, "ADMIN_PORT"),
            ]
            serving = await stack.enter_async_context(AsyncExitStack())
            addresses = await serving.enter_async_context(serve_sites(sites))
            if ready:
                await eventually(lambda: broker.unready_reason() is None)
            url = addresses["broker"]
            return RunningBroker(
                url, settings, url, addresses["admin"], broker.drain, serving.aclose
            )

        yield start


@pytest.fixture
async def broker(start_broker: StartBroker) -> RunningBroker:
    return await start_broker()
