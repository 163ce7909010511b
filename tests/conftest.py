"""What many tests share: a clock that is set, parts on memory, a broker on a free port."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
import stamina
import structlog
from aiohttp.web_protocol import RequestHandler

from broker.accounts import Account, Accounts
from broker.app import build
from broker.bus import Bus, open_bus
from broker.codes import CodeSource, LoginImages
from broker.directories import Directory
from broker.directories.open import OpenDirectory
from broker.engine import ENGINES
from broker.errors import UnregisteredUser
from broker.flow import Flow
from broker.login import Browser, Identity, Login, Phone, State, shelf
from broker.pictures import Pictures
from broker.pool import Pool
from broker.providers.pretend import PretendProvider
from broker.records import App, Apps
from broker.records.database import Database
from broker.records.settings import SettingsApps
from broker.serving import Site, serving
from broker.settings import PREFIX, Settings
from broker.state import Store, open_state
from broker.tokens import Issuer, KeyFile
from tests.support.environment import CI, free_port, miss, need
from tests.support.loop_clock import LoopClock, replaced_clock
from tests.support.servers import Engines, PostgresServer, S3Server, running_postgres, running_s3

__all__ = ["CI", "free_port", "miss", "need"]

ALICE = Phone("shop", Identity("pretend", "alice"))
BOB = Phone("shop", Identity("pretend", "bob"))
FIREFOX = Browser("192.0.2.7", "Firefox")
SHOP = App(
    id="shop",
    name="A shop",
    origins=frozenset({"https://shop.example"}),
    register_url="https://shop.example/register",
)
OTHER = App(id="other", name="Another", origins=frozenset({"https://other.example"}))

DEMO = {"HOST", "PORT", "SITE_PORT", "PHONE_PORT", "WECHAT_PORT", "PROVIDER", "POOL"}
"""What `scan-login demo` reads from the environment."""

STATES = ["memory", "valkey", "redis", "sentinel", "cluster"]
BUSES = ["memory", "valkey", "redis", "sentinel", "cluster"]
"""What the families' promises are tested over; see `START` in servers.py."""

RECORDS = ["sqlite", "postgresql"]
PICTURES = ["folder", "s3"]

ENGINE = f"{PREFIX}ENGINE"

SCENE = "scene-1"
LOGIN_ID = f"{shelf(SCENE)}ogin-1"


class Clock:
    """Time that stands still until it is set."""

    def __init__(self, time: float = 1_000_000.0) -> None:
        self.time = time

    def __call__(self) -> float:
        return self.time


class Register(OpenDirectory):
    """A directory of the people whom it was told of."""

    def __init__(self, *known: str) -> None:
        self.known = set(known)

    async def find(self, identity: Identity) -> str:
        if identity.id not in self.known:
            raise UnregisteredUser
        return f"user-{identity.id}"


class Notes:
    """A trail to look at: which logins ended, how and when."""

    def __init__(self) -> None:
        self.ends: list[tuple[str, State, float]] = []

    def note(self, login: Login, *, now: float) -> None:
        self.ends.append((login.id, login.state, now))


class Running(NamedTuple):
    """A broker that serves: its address and its settings.

    phones: where phones are to go, which may be another instance.  admin: the operator's port.
    """

    url: str
    settings: Settings
    phones: str
    admin: str = ""


StartBroker = Callable[..., Awaitable[Running]]


class NoSecrets:
    """Apps that have none."""

    def provider_secret(self, app_id: str) -> str | None:
        return None

    def is_api_secret(self, app_id: str, shown: str) -> bool:
        return False


def all_pretend(apps: Apps, provider: type[PretendProvider] = PretendProvider) -> Accounts:
    """Every app's provider is the pretend one."""
    return Accounts(
        apps=apps,
        secrets=NoSecrets(),
        own=[Account("pretend")],
        makers={"pretend": lambda account: provider(phone_page_url="http://phone.example/")},
    )


def codes_of(
    store: Store, apps: Apps, provider: type[PretendProvider] = PretendProvider
) -> CodeSource:
    """Codes by the pretend provider, and from pools that are in the state."""
    pictures = Pictures("file:///nowhere", public_url="https://cdn.example/codes")
    pool = Pool(leases=store.leases, pictures=pictures, clock=store.clock, rest=600, uses=100)
    images = LoginImages(store=store.images, duties=store.duties, instance="one")
    return CodeSource(accounts=all_pretend(apps, provider), pool=pool, images=images)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--engine", choices=ENGINES, help="what carries Socket.IO in every broker")


def pytest_configure(config: pytest.Config) -> None:
    """By the environment, which brokers in processes of their own have too."""
    os.environ.pop(ENGINE, None)
    if engine := config.getoption("--engine"):
        os.environ[ENGINE] = engine


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in {*os.environ} - {ENGINE}:
        if name.startswith((PREFIX, "AWS_")) or name in DEMO:
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _repeats_come_at_once() -> Iterator[None]:
    with stamina.set_testing(True, attempts=3, cap=True):
        yield


@pytest.fixture(autouse=True)
def _loggers_stay_as_they_were(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command that a test runs in this process sets the log up, and would bind every logger
    to that for good."""
    configure = structlog.configure

    def configure_for_now(**options: object) -> None:
        configure(**{**options, "cache_logger_on_first_use": False})  # type: ignore[arg-type]

    monkeypatch.setattr(structlog, "configure", configure_for_now)
    yield
    structlog.reset_defaults()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def loop_clock() -> AsyncIterator[LoopClock]:
    """The loop's clock. It runs, and a test can move it on."""
    with replaced_clock(runs=True) as clock:
        yield clock


@pytest.fixture
async def still_clock() -> AsyncIterator[LoopClock]:
    """The loop's clock. It stands still until a test moves it."""
    with replaced_clock(runs=False) as clock:
        yield clock


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> bytearray:
    """What aiohttp has received in servers of this process."""
    received = bytearray()
    receive = RequestHandler.data_received

    def data_received(self: RequestHandler, data: bytes) -> None:
        receive(self, data)
        received.extend(data)

    monkeypatch.setattr(RequestHandler, "data_received", data_received)
    return received


@pytest.fixture
def patient_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """WeChat's provider waits for a pretend WeChat on a busy machine."""
    monkeypatch.setattr("broker.providers.wechat.WITHIN", 60.0)
    for limit in ("CONNECT_WITHIN", "ANSWER_WITHIN"):
        monkeypatch.setattr(f"broker.providers.wechat.api.{limit}", 60.0)


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
def frail_postgres(postgres: PostgresServer) -> Iterator[PostgresServer]:
    """One that a test may stop or pause."""
    yield postgres
    postgres.revive()


@pytest.fixture(params=RECORDS)
def bare_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind with nothing in it."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/bare.db"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture(scope="session")
def postgres_template(postgres: PostgresServer) -> str:
    """The name of a database with all tables and nothing in them."""
    url = postgres.new_database()
    migrate(url)
    return url.rpartition("/")[2]


@pytest.fixture(params=RECORDS)
def records_url(request: pytest.FixtureRequest) -> str:
    """A database of each kind with all tables and nothing in them."""
    return database_of(request.param, request)


def database_of(kind: str, request: pytest.FixtureRequest) -> str:
    """One of that kind, such as `records_url` gives."""
    if kind == "sqlite":
        return f"sqlite+aiosqlite:///{request.getfixturevalue('records_file')}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database(request.getfixturevalue("postgres_template"))


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    with running_s3() as server:
        server.make_bucket("pictures")
        yield server


@pytest.fixture(params=PICTURES)
def pictures(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Pictures:
    """A place for pictures of each kind."""
    if request.param == "folder":
        return Pictures((tmp_path / "pictures").as_uri(), public_url="https://cdn.example/codes")
    server: S3Server = request.getfixturevalue("s3")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    return Pictures(
        f"s3://pictures/{tmp_path.name}",
        public_url="https://cdn.example/codes",
        endpoint=server.url,
    )


@pytest.fixture
async def store(clock: Clock) -> AsyncIterator[Store]:
    store = open_state("memory://", clock)
    yield store
    await store.close()


@pytest.fixture
async def bus() -> AsyncIterator[Bus]:
    bus = open_bus("memory://")
    yield bus
    await bus.close()


@pytest.fixture
def issuer(tmp_path: Path, clock: Clock) -> Issuer:
    return Issuer(
        file=KeyFile(tmp_path / "keys.json"),
        algorithm="ES256",
        issuer="https://login.example",
        lifetime=600,
        host_clock=clock,
    )


@pytest.fixture
def trail() -> Notes:
    return Notes()


@pytest.fixture
def make_flow(
    store: Store, bus: Bus, issuer: Issuer, clock: Clock, trail: Notes
) -> Callable[..., Flow]:
    """A flow over the store and bus of the test; by default at instance `one`."""

    def make(
        *,
        instance: str = "one",
        directory: Directory | None = None,
        bus: Bus = bus,
        apps: Sequence[App] = (SHOP, OTHER),
        issuer: Issuer = issuer,
    ) -> Flow:
        known = SettingsApps(apps)
        return Flow(
            logins=store.logins,
            bus=bus,
            apps=known,
            trail=trail,
            codes=codes_of(store, known),
            directory=directory or OpenDirectory(),
            issuer=issuer,
            clock=clock,
            instance=instance,
            lifetime=120,
            register_lifetime=600,
        )

    return make


@pytest.fixture
def flow(make_flow: Callable[..., Flow]) -> Flow:
    return make_flow()


@pytest.fixture(scope="session")
def empty_records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with all tables and nothing in them, to be copied: migrations take a while."""
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
    """Where the brokers of a test keep their records, unless told otherwise."""
    return Path(shutil.copy(empty_records, tmp_path))


@pytest.fixture
async def start_broker(tmp_path: Path, records_file: Path) -> AsyncIterator[StartBroker]:
    """Start a broker on a free port; settings, `directory` and `clock` by keyword."""
    async with AsyncExitStack() as stack:

        async def start(
            directory: Directory | str | None = None,
            clock: Callable[[], float] | None = None,
            **changes: object,
        ) -> Running:
            port = free_port()
            named = {"directory": directory} if isinstance(directory, str) else {}
            settings = Settings.model_validate(
                {
                    "port": port,
                    "public_url": f"http://127.0.0.1:{port}",
                    "key_file": tmp_path / f"keys-{port}.json",
                    "records_url": f"sqlite+aiosqlite:///{records_file}",
                    "seal_file": tmp_path / "seal.json",
                    "phone_page_url": "http://127.0.0.1:8090/",
                    **named,
                    **changes,
                }
            )
            broker = build(settings, clock=clock, directory=None if named else directory)
            sites = [
                Site("broker", broker.public, "127.0.0.1", port, "PORT"),
                Site("admin", broker.admin, "127.0.0.1", 0, "ADMIN_PORT"),
            ]
            addresses = await stack.enter_async_context(serving(sites))
            url = addresses["broker"]
            return Running(url, settings, url, addresses["admin"])

        yield start


@pytest.fixture
async def broker(start_broker: StartBroker) -> Running:
    return await start_broker()


def a_login(clock: Clock, **changes: object) -> Login:
    fields: dict[str, object] = {
        "id": LOGIN_ID,
        "scene": SCENE,
        "secret_hash": b"hash",
        "app": "shop",
        "browser": FIREFOX,
        "began_at": clock(),
        "expires_at": clock() + 120,
    }
    return Login(**{**fields, **changes})  # type: ignore[arg-type]
