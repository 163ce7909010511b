"""Tests of the guarantees of records, over each database."""

from __future__ import annotations

import asyncio
import base64
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from broker.apps.errors import AppAlreadyExists, AppNotFound, InvalidApp
from broker.apps.model import App
from broker.apps.ports import Apps
from broker.apps.registry import AppRegistry
from broker.apps.rules import FIELD_RULES
from broker.infrastructure.crypto.sealing import (
    SealKeyFile,
    SecretBox,
    SecretDecryptionFailed,
    key_id,
)
from broker.infrastructure.crypto.secret_file import KeyFileError
from broker.infrastructure.outbound.settings import check_signing_secret
from broker.records import is_records_url, tables
from broker.records.app_admin import SqlAppAdmin
from broker.records.app_cache import RECORDS_DOWN, AppCache
from broker.records.change_numbers import ChangeNumbers
from broker.records.database import Database, MigrationStatus
from broker.records.errors import RecordsStartupError, RecordsUnavailable
from broker.records.migrations import FOLDER, HEAD, REVISIONS, VERSION_TABLE
from broker.records.store import Records, open_records
from tests.support.builders import SHOP, Clock
from tests.support.records import connected
from tests.support.servers.postgres import PostgresServer
from tests.support.waiting import eventually

OLD, NEW = b"o" * 32, b"n" * 32
SECRET = "wechat-appsecret-0123456789abcdef"
SITE: dict[str, object] = {
    "name": "A site",
    "provider": "pretend",
    "provider_app_id": "wx1234",
    "provider_secret": SECRET,
    "origins": ["https://b.example", "HTTPS://A.example:443".lower()],
    "redirect_urls": ["https://a.example/done"],
    "register_url": "https://a.example/register",
    "code_source": "live",
    "login_lifetime": 60,
}

Open = Callable[..., Awaitable[Records]]


@pytest.fixture
async def open_instance(records_url: str, clock: Clock) -> AsyncIterator[Open]:
    """Open records over one database, as several instances do."""
    opened_records: list[Records] = []

    async def open(*keys: bytes, url: str = records_url) -> Records:
        records = open_records(
            url,
            load_seal_keys=lambda: keys or (OLD,),
            providers=("pretend", "wechat"),
            reserved_ids=("default",),
            clock=clock,
            trail_lifetime=3600,
        )
        opened_records.append(records)
        await records.open()
        return records

    yield open
    for records in opened_records:
        await records.close()


def dump(url: str, postgres: PostgresServer | None) -> str:
    """Return the whole content of the database."""
    if postgres is not None:
        return postgres.dump(url)
    with closing(sqlite3.connect(url.partition(":///")[2])) as connection:
        return "\n".join(connection.iterdump())


# --- migrations


async def test_tables_are_created_once(bare_url: str) -> None:
    async with connected(bare_url) as database:
        assert await database.status() == MigrationStatus(None, REVISIONS)
        assert await database.migrate() == REVISIONS
        assert await database.status() == MigrationStatus(HEAD, ())
        assert await database.migrate() == ()


@pytest.mark.parametrize("bare_url", ["sqlite"], indirect=True)
async def test_database_file_is_readable_by_its_owner_only(bare_url: str) -> None:
    folder = Path(bare_url.partition(":///")[2]).parent
    async with connected(bare_url) as database:
        await database.migrate()

        modes = {file.name: file.stat().st_mode & 0o777 for file in folder.glob("*.db*")}

    assert len(modes) == 3  # the database and the two files that SQLite adds
    assert set(modes.values()) == {0o600}


async def test_migrations_create_the_declared_tables(bare_url: str) -> None:
    def differences(connection: sa.Connection) -> object:
        options = {"version_table": VERSION_TABLE, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        return compare_metadata(context, tables.metadata)

    async with connected(bare_url) as database:
        await database.migrate()
        async with database.read_connection() as connection:
            assert await connection.run_sync(differences) == []


async def test_simultaneous_migrations_create_the_tables_once(bare_url: str) -> None:
    databases = [Database(bare_url) for _ in range(4)]

    await asyncio.gather(*(database.migrate() for database in databases))

    assert {await database.status() for database in databases} == {MigrationStatus(HEAD, ())}
    for database in databases:
        await database.close()


async def test_database_newer_than_the_program_is_refused(
    records_url: str, open_instance: Open
) -> None:
    async with connected(records_url) as database, database.write_transaction() as connection:
        await connection.execute(sa.text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))

    with pytest.raises(RecordsStartupError, match=f"9999, which is newer than revision {HEAD}"):
        await open_instance()


def test_revisions_match_the_migration_files() -> None:
    found = ScriptDirectory(str(FOLDER)).walk_revisions()
    assert tuple(one.revision for one in found) == REVISIONS[::-1]


# --- apps


async def test_app_has_its_given_fields(open_instance: Open, clock: Clock) -> None:
    records = await open_instance()

    added = await records.app_admin.add("site", SITE)

    assert added.app == App(
        id="site",
        name="A site",
        origins=frozenset({"https://a.example", "https://b.example"}),
        register_url="https://a.example/register",
        redirect_urls=frozenset({"https://a.example/done"}),
        provider="pretend",
        provider_app_id="wx1234",
        code_source="live",
        login_lifetime=60,
        incarnation=added.app.incarnation,
    )
    assert (added.created_at, added.changed_at) == (clock(), clock())
    assert await records.app_admin.get("site") == added
    assert await records.app_admin.list() == [added]


async def test_omitted_fields_have_defaults(open_instance: Open) -> None:
    records = await open_instance()

    added = await records.app_admin.add("site", {"name": "A site"})

    incarnation = added.app.incarnation
    assert added.app == App(id="site", name="A site", origins=frozenset(), incarnation=incarnation)


async def test_update_leaves_other_fields(open_instance: Open, clock: Clock) -> None:
    records = await open_instance()
    before = await records.app_admin.add("site", SITE)
    clock.time += 5

    await records.app_admin.update("site", {"name": "Another", "register_url": None})

    after = await records.app_admin.get("site")
    assert (after.app.name, after.app.register_url) == ("Another", None)
    assert after.app.origins == before.app.origins
    assert (after.has_provider_secret, before.has_provider_secret) == (True, True)
    assert (after.created_at, after.changed_at) == (before.created_at, clock())


async def test_unknown_app_is_not_found(open_instance: Open) -> None:
    app_admin = (await open_instance()).app_admin
    for act in (app_admin.get, app_admin.remove, app_admin.rotate_secret):
        with pytest.raises(AppNotFound):
            await act("unknown")
    with pytest.raises(AppNotFound):
        await app_admin.update("unknown", {"name": "x"})


async def test_app_id_is_unique(open_instance: Open) -> None:
    app_admin = (await open_instance()).app_admin
    await app_admin.add("site", SITE)

    with pytest.raises(AppAlreadyExists):
        await app_admin.add("site", {"name": "Another"})

    assert (await app_admin.get("site")).app.name == "A site"


INVALID_FIELDS: list[tuple[str, object]] = [
    ("id", "a b"),
    ("id", ""),
    ("id", "-a"),
    ("id", "a" * 65),
    ("name", ""),
    ("tunnel_url", "shop.example"),
    ("wafer_host", "a" * 254),
    ("wafer_key", "a" * 15),
    ("wafer_key", 17),
    ("name", "a\nb"),
    ("name", None),
    ("name", "a" * 101),
    ("provider", "unknown"),
    ("provider", 7),
    ("provider_app_id", "a" * 129),
    ("provider_secret", ""),
    ("provider_secret", ["a"]),
    ("origins", "https://a.example"),
    ("origins", ["https://a.example/path"]),
    ("origins", ["*"]),
    ("origins", [7]),
    ("origins", ["https://a.example"] * 101),
    ("redirect_urls", ["javascript:alert(1)"]),
    ("redirect_urls", ["https://a.example/#here"]),
    ("register_url", "javascript:alert(1)"),
    ("register_url", "https://"),
    ("code_source", "well"),
    ("login_lifetime", 0),
    ("login_lifetime", 3601),
    ("login_lifetime", "60"),
    ("login_lifetime", True),
    ("client_type", "secret"),
    ("home_url", "javascript:alert(1)"),
    ("post_logout_urls", ["javascript:alert(1)"]),
    ("backchannel_logout_url", "ftp://a.example"),
    ("events_url", ""),
    ("tunnel_url", "ftp://a.example"),
    ("redirect_urls", ["com.example.app:/cb"]),  # of a confidential app
    ("redirect_urls", ["app:/cb"]),
    ("scopes", ["openid", "everything"]),
    ("scopes", "openid"),
    ("id_token_alg", "none"),
    ("id_token_claims", "fat"),
    ("pkce", "plain"),
    ("refresh", True),
    ("reuse", ""),
    ("sso", 1),
    ("loopback", "yes"),
    ("phone_app", "a b"),
    ("match", "maybe"),
    ("show_scanner", True),
    ("logo_url", "logo.png"),
    ("open_url", "javascript:alert('{scene}')"),
    ("open_url", "https://app.example/login"),
    ("networks", ["192.0.2.1/24"]),
    ("networks", "192.0.2.0/24"),
    ("files_types", ["svg"]),
    ("files_types", "png"),
    ("files_max", 0),
    ("files_lifetime", True),
    ("files_url", "ftp://site.example"),
    ("rooms", "closed"),
    ("rooms", ""),
    ("moderators", "alice"),
    ("moderators", ["a" * 256]),
    ("colour", "red"),
]


@pytest.fixture
async def app_admin(open_instance: Open) -> SqlAppAdmin:
    return (await open_instance()).app_admin


@pytest.mark.parametrize("records_url", ["sqlite"], indirect=True)
async def test_invalid_field_is_named(app_admin: SqlAppAdmin) -> None:
    for name, value in INVALID_FIELDS:
        fields: dict[str, Any] = {**SITE, name: value}
        app_id = fields.pop("id", "site")
        with pytest.raises(InvalidApp, match=f"^{name}: "):
            await app_admin.add(app_id, fields)
    assert await app_admin.list() == []
    assert {name for name, _ in INVALID_FIELDS} >= FIELD_RULES.keys()


@pytest.mark.parametrize("records_url", ["sqlite"], indirect=True)
async def test_all_mistakes_are_named_without_secrets(app_admin: SqlAppAdmin) -> None:
    with pytest.raises(InvalidApp) as wrong:
        await app_admin.add("a b", {**SITE, "name": "", "provider_secret": SECRET + "\n"})

    named = {part.split(":")[0] for part in str(wrong.value).split("; ")}
    assert named == {"id", "name", "provider_secret"}
    assert SECRET not in str(wrong.value)


@pytest.mark.parametrize("records_url", ["sqlite"], indirect=True)
async def test_app_from_the_settings_cannot_be_stored(app_admin: SqlAppAdmin) -> None:
    with pytest.raises(InvalidApp, match="defined by the settings"):
        await app_admin.add("default", SITE)
    with pytest.raises(InvalidApp, match="cannot be changed"):
        await app_admin.update("site", {"id": "default"})


# --- instances


async def test_change_is_visible_on_another_instance(open_instance: Open) -> None:
    one, two = await open_instance(), await open_instance()
    await one.app_admin.add("site", SITE)
    await two.apps.refresh()
    assert await name_in(two.apps) == "A site"
    assert two.apps.origins() == {"https://a.example", "https://b.example"}

    await one.app_admin.update("site", {"name": "Another"})
    await two.apps.refresh()
    assert await name_in(two.apps) == "Another"

    await one.app_admin.remove("site")
    await two.apps.refresh()
    assert two.apps.get("site") is None
    assert two.apps.origins() == frozenset()


async def test_refresh_without_changes_reads_no_apps(open_instance: Open) -> None:
    records = await open_instance()
    await records.app_admin.add("site", SITE)
    await records.apps.refresh()
    before = records.apps.origins()

    await records.apps.refresh()

    assert records.apps.origins() is before


async def name_in(apps: Apps) -> str:
    """Return the name of the app `site`."""
    app = apps.get("site")
    assert app is not None
    return app.name


async def test_apps_from_the_settings_have_priority(
    open_instance: Open,
) -> None:
    records = await open_instance()
    apps = AppRegistry([SHOP], records.apps)
    assert apps.origins() == SHOP.origins
    await records.app_admin.add("site", SITE)
    await records.app_admin.add("shop", {"name": "Not the settings'"})
    await records.apps.refresh()

    assert await name_in(apps) == "A site"
    assert apps.get("shop") is SHOP
    assert apps.get("unknown") is None
    assert apps.origins() == SHOP.origins | {"https://a.example", "https://b.example"}
    assert apps.origins() is apps.origins()


# --- secrets


async def test_provider_secret_can_be_decrypted(open_instance: Open) -> None:
    records = await open_instance()
    await records.app_admin.add("site", SITE)
    await records.app_admin.add("bare", {"name": "Bare"})
    await records.apps.refresh()

    assert records.apps.provider_secret("site") == SECRET
    assert records.apps.provider_secret("bare") is None
    assert records.apps.provider_secret("unknown") is None


async def test_rotated_api_secret_replaces_the_former_one(
    open_instance: Open,
) -> None:
    records = await open_instance()
    await records.app_admin.add("site", SITE)
    await records.app_admin.add("other", {"name": "Other"})

    async def rotate() -> str:
        secret = await records.app_admin.rotate_secret("site")
        await records.apps.refresh()
        return secret

    first, second = await rotate(), await rotate()

    assert len(first) == len(second) == 43
    assert records.apps.is_api_secret("site", second)
    assert not records.apps.is_api_secret("site", first)
    for app_id in ("other", "unknown"):
        assert not records.apps.is_api_secret(app_id, second)
        assert not records.apps.is_api_secret(app_id, "")


async def test_no_secret_is_in_the_database_or_output(
    open_instance: Open, records_url: str, request: pytest.FixtureRequest
) -> None:
    records = await open_instance()
    added = await records.app_admin.add("site", SITE)
    await records.apps.refresh()
    api_secret = await records.app_admin.rotate_secret("site")
    server = request.getfixturevalue("postgres") if "postgresql" in records_url else None

    dumped = dump(records_url, server)

    assert "wx1234" in dumped
    known = await records.app_admin.get("site")
    for text in (dumped, repr(known), repr(added), str(known.as_dict()), repr(vars(records.apps))):
        for secret in (SECRET, api_secret):
            for spelling in (secret, secret.encode().hex(), base64.b64encode(secret.encode())):
                assert str(spelling) not in text
    assert "sealed" not in repr(known)
    assert "hash" not in repr(known)
    assert known.as_dict()["has_provider_secret"] is True
    assert known.as_dict()["has_api_secret"] is True


@pytest.mark.parametrize("change", ["swap", "turn"])
async def test_moved_or_changed_ciphertext_is_not_decrypted(
    open_instance: Open, records_url: str, change: str
) -> None:
    records = await open_instance()
    await records.app_admin.add("site", SITE)
    await records.app_admin.add("victim", {**SITE, "provider_secret": "victims"})
    [(content, _)] = await stored_secrets(records_url, "victim")
    if change == "turn":
        content = content[:-1] + bytes([content[-1] ^ 1])
    row = tables.apps.c
    app_id = "site" if change == "swap" else "victim"
    async with connected(records_url) as database, database.write_transaction() as connection:
        await connection.execute(
            sa.update(tables.apps).where(row.id == app_id).values(provider_secret=content)
        )
    await records.app_admin.update("site", {"name": "So that it is read"})
    await records.apps.refresh()

    with pytest.raises(SecretDecryptionFailed, match=f"app {app_id} was not encrypted for it"):
        records.apps.provider_secret(app_id)


async def stored_secrets(url: str, *app_ids: str) -> list[tuple[bytes, str]]:
    """The encrypted secrets of apps, and the ids of their keys."""
    row = tables.apps.c
    columns = sa.select(row.provider_secret, row.provider_secret_key)
    async with connected(url) as database, database.read_connection() as connection:
        found = await connection.execute(columns.where(row.id.in_(app_ids)))
        return [(bytes(secret), key) for secret, key in found]


async def test_rewrap_replaces_all_older_keys(open_instance: Open, records_url: str) -> None:
    await (await open_instance(OLD)).app_admin.add("site", SITE)
    both = await open_instance(NEW, OLD)
    await both.app_admin.add("newer", SITE)

    assert await both.app_admin.rewrap() == 1
    assert await both.app_admin.rewrap() == 0

    assert {key for _, key in await stored_secrets(records_url, "site", "newer")} == {key_id(NEW)}
    late = await open_instance(NEW)
    assert late.apps.provider_secret("site") == SECRET
    old_instance = await open_instance(OLD)
    with pytest.raises(
        SecretDecryptionFailed, match=f"with the key {key_id(NEW)}, which this instance"
    ):
        old_instance.apps.provider_secret("site")


async def test_webhook_secret_is_stored_encrypted(
    open_instance: Open, records_url: str, request: pytest.FixtureRequest
) -> None:
    records = await open_instance(OLD)
    await records.app_admin.add("site", SITE)
    rotated = [await records.app_admin.rotate_webhook_secret("site") for _ in range(3)]
    _, former, secret = rotated
    await records.apps.refresh()

    server = request.getfixturevalue("postgres") if "postgresql" in records_url else None

    check_signing_secret(secret)
    assert list(records.apps.webhook_secrets("site")) == [secret, former]
    assert secret not in dump(records_url, server)


async def test_rewrap_replaces_keys_of_webhook_secrets(open_instance: Open) -> None:
    old = await open_instance(OLD)
    await old.app_admin.add("site", SITE)
    secret = await old.app_admin.rotate_webhook_secret("site")
    both = await open_instance(NEW, OLD)

    assert await both.app_admin.rewrap() == 2
    assert await both.app_admin.rewrap() == 0

    late = await open_instance(NEW)
    assert list(late.apps.webhook_secrets("site")) == [secret]
    assert late.apps.provider_secret("site") == SECRET


async def test_webhook_secret_of_a_lost_key_is_replaced(open_instance: Open) -> None:
    old = await open_instance(OLD)
    await old.app_admin.add("site", SITE)
    await old.app_admin.rotate_webhook_secret("site")
    new = await open_instance(NEW)

    secret = await new.app_admin.rotate_webhook_secret("site")

    await new.apps.refresh()
    assert list(new.apps.webhook_secrets("site")) == [secret]


async def test_app_without_webhook_secret_has_none(open_instance: Open) -> None:
    records = await open_instance(OLD)
    await records.app_admin.add("site", SITE)
    await records.apps.refresh()

    assert list(records.apps.webhook_secrets("site")) == []
    assert list(records.apps.webhook_secrets("unknown")) == []


async def test_rewrap_with_a_missing_key_changes_nothing(
    open_instance: Open, records_url: str
) -> None:
    await (await open_instance(OLD)).app_admin.add("a", SITE)
    await (await open_instance(b"l" * 32)).app_admin.add("b", SITE)
    records = await open_instance(NEW, OLD)

    with pytest.raises(SecretDecryptionFailed):
        await records.app_admin.rewrap()

    keys = {key for _, key in await stored_secrets(records_url, "a", "b")}
    assert keys == {key_id(OLD), key_id(b"l" * 32)}


def test_running_instance_reads_a_new_seal_key(tmp_path: Path) -> None:
    file = SealKeyFile(tmp_path / "seal.json")
    running, other = SecretBox(file.keys), SecretBox(file.keys)
    running.load()
    file.add()
    other.load()

    sealed = other.encrypt(SECRET, "site")

    assert running.decrypt(sealed, "site") == SECRET
    assert running.newest_key_id == other.newest_key_id == sealed.key_id


def test_seal_file_is_created_once_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "seal.json"
    keys = SealKeyFile(path).keys()

    assert [len(key) for key in keys] == [32]
    assert path.stat().st_mode & 0o777 == 0o600
    assert SealKeyFile(path).keys() == keys
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match="can be read by other users"):
        SealKeyFile(path).keys()


@pytest.mark.parametrize("text", ["{", "[]", '{"keys": []}', '{"keys": ["c2hvcnQ="]}'])
def test_damaged_seal_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "seal.json"
    path.write_text(text)
    path.chmod(0o600)

    with pytest.raises(KeyFileError, match=r"seal\.json is damaged"):
        SealKeyFile(path).keys()


# --- outages


@pytest.mark.parametrize("records_url", ["sqlite"], indirect=True)
async def test_apps_are_available_during_a_database_outage(
    open_instance: Open, stoppable_postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.records.app_cache.REFRESH_INTERVAL", 0.05)
    records = await open_instance(url=stoppable_postgres.new_database())
    await records.app_admin.add("site", SITE)
    await eventually(records.apps.origins)

    stoppable_postgres.stop()
    await eventually(lambda: RECORDS_DOWN._value.get() == 1)
    with pytest.raises(RecordsUnavailable):
        await records.app_admin.update("site", {"name": "Another"})
    assert await name_in(records.apps) == "A site"
    assert records.apps.provider_secret("site") == SECRET

    stoppable_postgres.start()
    await eventually(lambda: RECORDS_DOWN._value.get() == 0)
    await records.app_admin.update("site", {"name": "Another"})
    await records.apps.refresh()
    assert await name_in(records.apps) == "Another"


@pytest.mark.parametrize("records_url", ["sqlite"], indirect=True)
async def test_locked_database_file_is_readable(open_instance: Open, records_url: str) -> None:
    records = await open_instance()
    await records.app_admin.add("site", SITE)
    with closing(sqlite3.connect(records_url.partition(":///")[2])) as other:
        other.execute("BEGIN EXCLUSIVE")

        await records.apps.refresh()
        database = Database(records_url, statement_timeout=0.1)
        with pytest.raises(RecordsUnavailable) as down:
            async with database.write_transaction():
                pass
        await database.close()

    assert down.value.reason == "database is locked"
    assert records.apps.provider_secret("site") == SECRET


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sqlite+aiosqlite:////nowhere/at/all.db", "does not exist"),
        ("postgresql+asyncpg://u:hunter2@127.0.0.1:1/x", "Connect call failed"),
        ("postgresql+asyncpg://u:hunter2@nowhere.invalid/x", "not known"),
    ],
)
@pytest.mark.parametrize("records_url", ["sqlite"], indirect=True)
async def test_start_without_database_names_the_setting(
    open_instance: Open, url: str, reason: str
) -> None:
    with pytest.raises(RecordsStartupError, match=reason) as refused:
        await open_instance(url=url)

    assert "SCAN_LOGIN_RECORDS_URL" in str(refused.value)
    assert "hunter2" not in str(refused.value)


async def test_hanging_server_causes_a_timeout(postgres: PostgresServer) -> None:
    database = Database(postgres.url(), statement_timeout=0.3)
    with pytest.raises(RecordsUnavailable) as down:
        async with database.read_connection() as connection:
            await connection.execute(sa.text("SELECT pg_sleep(600)"))
    await database.close()

    assert down.value.reason == "no answer in time"


async def test_failure_reason_repeats_no_value(postgres: PostgresServer) -> None:
    async with connected(postgres.url()) as database:
        with pytest.raises(RecordsUnavailable) as down:
            async with database.read_connection() as connection:
                await connection.execute(sa.text("SELECT CAST('canary' AS integer)"))

    assert "canary" not in down.value.reason


@pytest.mark.parametrize(
    ("url", "is_valid"),
    [
        ("sqlite+aiosqlite:///scan-login.db", True),
        ("sqlite+aiosqlite:////var/lib/scan-login.db", True),
        ("postgresql+asyncpg://u:p@h/db", True),
        ("sqlite+aiosqlite://", False),
        ("sqlite+aiosqlite:///:memory:", False),
        ("sqlite+aiosqlite://file.db", False),
        ("sqlite:///scan-login.db", False),
        ("mysql://h/db", False),
    ],
)
def test_records_url_names_a_file_or_server(url: str, is_valid: bool) -> None:
    assert is_records_url(url) is is_valid


def test_app_cache_is_empty_before_its_first_read(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/x.db")
    apps = AppCache(database, SecretBox(lambda: (OLD,)), ChangeNumbers())
    assert apps.origins() == frozenset()
