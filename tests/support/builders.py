"""Values and fakes that many tests share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from broker.accounts import Account, Accounts
from broker.codes import CodeSource, LoginImages
from broker.directories.open import OpenDirectory
from broker.errors import UnregisteredUser
from broker.login import Browser, Identity, Login, Phone, State, shelf
from broker.pictures import Pictures
from broker.pool import Pool
from broker.providers.pretend import PretendProvider
from broker.records import App, Apps
from broker.settings import Settings
from broker.state import Store

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

STATES = ["memory", "valkey", "redis", "sentinel", "cluster"]

BUSES = ["memory", "valkey", "redis", "sentinel", "cluster"]
"""What the families' promises are tested over; see `START` in servers/redis.py."""

SCENE = "scene-1"

LOGIN_ID = f"{shelf(SCENE)}ogin-1"


class Clock:
    """Time that stands still until it is set."""

    def __init__(self, time: float = 1_000_000.0) -> None:
        self.time = time

    def __call__(self) -> float:
        return self.time


class FixedDirectory(OpenDirectory):
    """A directory of the people whom it was told of."""

    def __init__(self, *known: str) -> None:
        self.known = set(known)

    async def find(self, identity: Identity) -> str:
        if identity.id not in self.known:
            raise UnregisteredUser
        return f"user-{identity.id}"


class RecordingAuditLog:
    """A trail to look at: which logins ended, how and when."""

    def __init__(self) -> None:
        self.ends: list[tuple[str, State, float]] = []

    def note(self, login: Login, *, now: float) -> None:
        self.ends.append((login.id, login.state, now))


class RunningBroker(NamedTuple):
    """A broker that serves: its address and its settings.

    phones: where phones are to go, which may be another instance.  admin: the operator's port.
    """

    url: str
    settings: Settings
    phones: str
    admin: str = ""


StartBroker = Callable[..., Awaitable[RunningBroker]]


class EmptyAppSecrets:
    """Apps that have none."""

    def provider_secret(self, app_id: str) -> str | None:
        return None

    def is_api_secret(self, app_id: str, shown: str) -> bool:
        return False


def all_pretend(apps: Apps, provider: type[PretendProvider] = PretendProvider) -> Accounts:
    """Every app's provider is the pretend one."""
    return Accounts(
        apps=apps,
        secrets=EmptyAppSecrets(),
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
