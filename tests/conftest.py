"""What many tests share: a clock that is set, parts on memory, a broker on a free port."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
import stamina

from broker.app import build
from broker.bus import Bus, open_bus
from broker.directories import Directory
from broker.directories.open import OpenDirectory
from broker.engine import ENGINES
from broker.errors import UnregisteredUser
from broker.flow import Flow
from broker.login import Browser, Identity, Login, Phone, shelf
from broker.providers.pretend import PretendProvider
from broker.records import App
from broker.records.settings import SettingsApps
from broker.serving import Site, serving
from broker.settings import PREFIX, Settings
from broker.state import Store, open_state
from broker.tokens import Issuer, KeyFile
from tests.machine import CI, free_port, miss, need
from tests.servers import Engines

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

DEMO = {"HOST", "PORT", "SITE_PORT", "PHONE_PORT", "WECHAT_PORT", "PROVIDER"}
"""What `scan-login demo` reads from the environment."""

STATES = ["memory", "valkey", "redis", "sentinel", "cluster"]
BUSES = ["memory", "valkey", "redis", "sentinel", "cluster"]
"""What the families' promises are tested over; see `START` in servers.py."""

ENGINE = f"{PREFIX}ENGINE"

SCENE = "scene-1"
LOGIN_ID = f"{shelf(SCENE)}ogin-1"


class Clock:
    """Time that stands still until it is set."""

    def __init__(self, time: float = 1_000_000.0) -> None:
        self.time = time

    def __call__(self) -> float:
        return self.time


class Register:
    """A directory of the people whom it was told of."""

    def __init__(self, *known: str) -> None:
        self.known = set(known)

    async def find(self, identity: Identity) -> str:
        if identity.id not in self.known:
            raise UnregisteredUser
        return f"user-{identity.id}"


class Running(NamedTuple):
    """A broker that serves: its address and its settings.

    phones: where phones are to go, which may be another instance.
    """

    url: str
    settings: Settings
    phones: str


StartBroker = Callable[..., Awaitable[Running]]


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
        if name.startswith(PREFIX) or name in DEMO:
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _repeats_come_at_once() -> Iterator[None]:
    with stamina.set_testing(True, attempts=3, cap=True):
        yield


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def engines() -> Iterator[Engines]:
    engines = Engines()
    yield engines
    engines.close()


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
        now=clock(),
    )


@pytest.fixture
def make_flow(store: Store, bus: Bus, issuer: Issuer, clock: Clock) -> Callable[..., Flow]:
    """A flow over the store and bus of the test; by default at instance `one`."""

    def make(*, instance: str = "one", directory: Directory | None = None, bus: Bus = bus) -> Flow:
        return Flow(
            logins=store.logins,
            bus=bus,
            apps=SettingsApps([SHOP, OTHER]),
            provider=PretendProvider(phone_page_url="http://phone.example/"),
            directory=directory or OpenDirectory(),
            issuer=issuer,
            clock=clock,
            instance=instance,
            lifetime=120,
        )

    return make


@pytest.fixture
def flow(make_flow: Callable[..., Flow]) -> Flow:
    return make_flow()


@pytest.fixture
async def start_broker(tmp_path: Path) -> AsyncIterator[StartBroker]:
    """Starts a broker on a free port; settings by keyword, `directory` to replace theirs."""
    async with AsyncExitStack() as stack:

        async def start(directory: Directory | None = None, **changes: object) -> Running:
            port = free_port()
            settings = Settings.model_validate(
                {
                    "port": port,
                    "public_url": f"http://127.0.0.1:{port}",
                    "key_file": tmp_path / f"keys-{port}.json",
                    "phone_page_url": "http://127.0.0.1:8090/",
                    **changes,
                }
            )
            broker = build(settings, directory=directory)
            site = Site("broker", broker.public, "127.0.0.1", port, "PORT")
            addresses = await stack.enter_async_context(serving([site]))
            return Running(addresses["broker"], settings, addresses["broker"])

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
