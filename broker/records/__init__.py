"""What outlives a restart: apps, users with their identities, codes, a trail of ended logins.

Apps are asked for at every login, so each instance holds all of them and looks
every two seconds whether they have changed.  No login waits for the database,
and none is lost with it.

settings.py    the app that the settings name, laid over those that are recorded
sql.py         records in SQLite or PostgreSQL, joined from the files below
database.py    the one connection to it       tables.py      what stands there
file.py        the file of a SQLite database: created once, watched for loss
urls.py        its URL, as the drivers take it
migrations/    how it came to stand so
apps.py        apps as this instance holds them
book.py        apps as an operator writes them down       rules.py   what may stand in one
people.py      who is who here: found, joined, invited     identities.py   whose an identity is
user_book.py   users as an operator writes them down      user_rules.py   what may stand in one
seal.py        secrets that can be read again, by the broker alone
trail.py       how logins ended              codes.py    codes drawn ahead of time
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, Protocol
from urllib.parse import urlsplit

from broker.login import Login, app_key

if TYPE_CHECKING:
    from broker.records.apps import RecordedApps
    from broker.records.book import AppBook
    from broker.records.codes import Codes
    from broker.records.people import People
    from broker.records.seal import Keys, SealKeys
    from broker.records.user_book import UserBook

DEFAULT_APP = "default"
"""The app that the settings name."""

SCHEMES = ("postgresql+asyncpg", "sqlite+aiosqlite")
"""How a records' URL begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """One site that logs people in.

    id: what browsers and phones call it; the token's audience.
    name: what the person reads on the phone before confirming.
    origins: exact Origins whose pages may begin a login (`https://shop.example`).
    register_url: where an unknown person is sent; None where nobody can register.
    redirect_urls: exact URLs that a browser may be sent to with a login's outcome.
    provider: who draws its codes and proves its phones.
    provider_app_id: what the provider calls it (WeChat: `appid`); empty where it has
        no name there.
    code_source: `live`, a code drawn for each login, or `pool`, drawn ahead of time.
    login_lifetime: seconds a code may be scanned and confirmed; None: as the broker's.
    incarnation: random, and never the same again: an app that is removed and added again under
        its id is another app. Empty for the settings' app, and for apps that were recorded
        before incarnations were.
    """

    id: str
    name: str
    origins: frozenset[str]
    register_url: str | None = None
    redirect_urls: frozenset[str] = frozenset()
    provider: str = "pretend"
    provider_app_id: str = ""
    code_source: str = "live"
    login_lifetime: int | None = None
    incarnation: str = ""

    @property
    def key(self) -> str:
        """The key of its codes."""
        return app_key(self.id, self.incarnation)


class Apps(Protocol):
    async def get(self, app_id: str) -> App | None:
        """The app, or None."""

    def pooled(self) -> Collection[App]:
        """Those whose codes come from a pool."""

    def origins(self) -> frozenset[str]:
        """Every origin that any app allows; the same object for as long as none changes."""


class AppSecrets(Protocol):
    def provider_secret(self, app_id: str) -> str | None:
        """What the app shows its provider (WeChat: AppSecret); None where it has none.

        Raises CannotUnseal.
        """

    def is_api_secret(self, app_id: str, shown: str) -> bool:
        """Whether `shown` is the secret by which the app's own servers prove themselves."""


class Trail(Protocol):
    def note(self, login: Login, *, now: float) -> None:
        """Write down, soon, that `login` has ended as it says; one noted twice stands once.

        Never waits and never fails: what cannot be written in the end is counted.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """A number that somebody draws a code for.

    app: the app's key.
    drawing: how often the number was drawn before.
    until: Unix time in seconds after which somebody else may take it over.
    """

    app: str
    number: int
    drawing: int
    scene: str = field(repr=False)
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """A code drawn ahead of time, which can be shown.

    app: the app's key.
    picture: the key under which its picture is kept.
    drawn_at: Unix time in seconds.
    """

    app: str
    number: int
    drawing: int
    scene: str = field(repr=False)
    picture: str
    drawn_at: float


class Drawing(NamedTuple):
    """Which code: one drawing of a number.  app: the app's key."""

    app: str
    number: int
    drawing: int


class Counts(NamedTuple):
    """How many codes an app has.

    app: the app's key.
    reserved: are being drawn, or were begun and left.  leftover: retired, with pictures
    that are still there.  oldest: Unix time at which the oldest ready one was drawn.
    """

    app: str
    ready: int
    reserved: int
    retired: int
    leftover: int
    oldest: float | None


class Status(NamedTuple):
    """revision: that the tables are at, None where there are none.  missing: those to come."""

    revision: str | None
    missing: tuple[str, ...]


class Records(Protocol):
    """A database, and what is asked of it.

    place: its URL, without a password.
    """

    apps: RecordedApps
    book: AppBook
    codes: Codes
    people: People
    users: UserBook
    trail: Trail
    seal_keys: SealKeys
    place: str

    @property
    def was_created(self) -> bool:
        """Whether there was no SQLite file before this process created one."""

    async def open(self) -> None:
        """Bring the tables up to date, read the apps, and go on: look whether they have
        changed, and write the trail.

        Raises RecordsUnusable, or KeyFileUnusable for the seal keys.
        """

    async def close(self) -> None:
        """Write what is still to be written; a database that hangs is waited for some seconds."""

    def trouble(self) -> str | None:
        """Why the SQLite file is not the one in use: it was deleted or replaced. None if it is.

        A temporary outage does not count.
        """

    async def check_options(self) -> None:
        """Raise ValueError if the driver refuses the URL's options.  Connects to nothing."""

    async def status(self) -> Status:
        """How the tables stand; raises RecordsUnusable."""

    async def migrate(self) -> Sequence[str]:
        """Bring the tables up to date; the revisions that were missing.  Raises RecordsUnusable."""


def is_records_url(url: str) -> bool:
    """Whether it names a PostgreSQL, or a file for SQLite: each process has a memory of its own."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite+aiosqlite":
        return not parts.netloc and parts.path.strip("/") not in ("", ":memory:")
    return parts.scheme in SCHEMES


def open_records(
    url: str,
    *,
    load_seal_keys: Callable[[], Keys],
    providers: Sequence[str],
    taken: Collection[str],
    clock: Callable[[], float],
    trail_lifetime: int,
    pgbouncer: bool = False,
) -> Records:
    """The records that `url` names, not yet connected.

    pgbouncer: the server is behind PgBouncer in transaction mode.
    load_seal_keys: reads the keys that seal secrets.  providers, taken, clock: as `AppBook`
    wants them.  trail_lifetime: seconds for which a login's end is kept.
    Raises ValueError for a URL that names nothing.
    """
    if pgbouncer:
        url += f"{'&' if '?' in url else '?'}statement_cache_size=0"
    records: Records = import_module("broker.records.sql").SqlRecords(
        url,
        load_seal_keys=load_seal_keys,
        providers=providers,
        taken=taken,
        clock=clock,
        trail_lifetime=trail_lifetime,
    )
    return records
