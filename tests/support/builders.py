"""Shared values and fakes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from broker.apps.model import App
from broker.apps.ports import Apps
from broker.audit.model import AuditEntry
from broker.blobs.pictures import ObjectPictureStore
from broker.directories.open import OpenDirectory
from broker.identity.errors import UnregisteredUser
from broker.identity.model import Identity, Phone, ProviderAccount, UserProfile
from broker.identity.registry import ProviderRegistry
from broker.infrastructure.settings import Settings
from broker.infrastructure.sharding import shard_of
from broker.login.codes import CodeSource, LoginImages
from broker.login.model import Browser, ConfirmedLogin, Login, State
from broker.login.ports import LOGIN_RETENTION, RequestedLogin
from broker.login.services import LoginServices
from broker.pool.code_pool import CodePool
from broker.providers.pretend import PretendProvider
from broker.state import StateBackend

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
"""Backends of the conformance tests, see `START` in servers/redis.py."""

SCENE = "scene-1"

LOGIN_ID = f"{shard_of(SCENE)}ogin-1"


class Clock:
    """A clock that changes only when it is set."""

    def __init__(self, time: float = 1_000_000.0) -> None:
        self.time = time

    def __call__(self) -> float:
        return self.time


class FixedDirectory(OpenDirectory):
    """A directory that knows the given identities."""

    def __init__(self, *known: str) -> None:
        self.known = set(known)

    async def find(self, identity: Identity) -> UserProfile:
        if identity.id not in self.known:
            raise UnregisteredUser
        return UserProfile(subject=f"user-{identity.id}")


class NoRequests:
    """A provider without authorization requests."""

    async def find(self, request_id: str, app: App) -> RequestedLogin | None:
        return None


NO_REQUESTS = NoRequests()


class RecordingAuditLog:
    """An audit log that records which logins ended, how and when."""

    def __init__(self) -> None:
        self.ends: list[tuple[str, State, float]] = []
        self._confirmed: dict[str, ConfirmedLogin] = {}

    def record(self, login: Login, *, now: float) -> None:
        self.ends.append((login.id, login.state, now))
        if login.phone is not None and login.subject is not None:
            identity = login.phone.identity
            self._confirmed[login.id] = ConfirmedLogin(
                login.app, login.incarnation, identity.provider, identity.id, login.subject, None
            )

    async def find(self, login_id: str) -> ConfirmedLogin | None:
        return self._confirmed.get(login_id)

    async def report(self, login_id: str, *, now: float) -> bool:
        login = self._confirmed.get(login_id)
        if login is None or login.reported_at is not None:
            return False
        self._confirmed[login_id] = login._replace(reported_at=now)
        return True


class RecordingTrail:
    """An audit log in memory."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []

    def add(self, entry: AuditEntry) -> None:
        self.entries.append(entry)


class RunningBroker(NamedTuple):
    """A serving broker: its address and its settings.

    phones: the URL for phones, which may be another instance.
    admin: the URL of the admin port.
    drain: refuses new logins and sockets.  stop: ends the broker before the end of the test.
    """

    url: str
    settings: Settings
    phones: str
    admin: str = ""
    drain: Callable[[], None] = lambda: None
    stop: Callable[[], Awaitable[None]] | None = None


StartBroker = Callable[..., Awaitable[RunningBroker]]


class EmptyAppSecrets:
    """App secrets without any secret."""

    def provider_secret(self, app_id: str) -> str | None:
        return None

    def is_api_secret(self, app_id: str, shown: str) -> bool:
        return False


def all_pretend(apps: Apps, provider: type[PretendProvider] = PretendProvider) -> ProviderRegistry:
    """Return a registry in which every app has the pretend provider."""
    return ProviderRegistry(
        apps=apps,
        secrets=EmptyAppSecrets(),
        default_accounts=[ProviderAccount("pretend")],
        factories={"pretend": lambda account: provider(phone_page_url="http://phone.example/")},
    )


def codes_of(
    store: StateBackend, apps: Apps, provider: type[PretendProvider] = PretendProvider
) -> CodeSource:
    """Return a source of codes of the pretend provider and of the pools in the state."""
    pictures = ObjectPictureStore("file:///nowhere", public_url="https://cdn.example/codes")
    pool = CodePool(
        leases=store.code_leases,
        pictures=pictures,
        clock=store.clock,
        cooldown=600,
        retention=LOGIN_RETENTION,
        uses=100,
    )
    images = LoginImages(store=store.images, leader_leases=store.leader_leases, instance="one")
    return CodeSource(providers=all_pretend(apps, provider), pool=pool, images=images)


class LoginMethods:
    """The methods of the login services of one instance."""

    def __init__(self, services: LoginServices) -> None:
        self.reader = services.reader
        self.writer = services.writer
        self.begin = services.service.begin
        self.scan = services.scanner.scan
        self.confirm = services.service.confirm
        self.prove = services.service.prove
        self.deny = services.service.deny
        self.redeem = services.redeemer.redeem
        self.resume = services.service.resume
        self.cancel = services.service.cancel
        self.abandon = services.service.abandon
        self.get = services.service.get
        self.require = services.service.require
        self.user_code = services.device_codes.issue
        self.typed = services.device_codes.find
        self.scanner = services.scanner_profiles.fields
        self.close = services.service.close


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
