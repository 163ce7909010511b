"""libpq's `sslmode` in the URL of the records, with a PostgreSQL over TLS."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from broker.records.database import Database
from broker.records.errors import RecordsUnavailable
from tests.support.certificate import certificate
from tests.support.servers.postgres import PostgresServer, running_postgres


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A server with a self-signed certificate for `localhost`."""
    with running_postgres() as server:
        folder = server.data
        certificate(folder)
        (folder / "key.pem").chmod(0o600)
        if os.geteuid() == 0:
            owner = pwd.getpwnam("nobody")
            for name in ("cert.pem", "key.pem"):
                os.chown(folder / name, owner.pw_uid, owner.pw_gid)
        for setting in ("ssl_cert_file = 'cert.pem'", "ssl_key_file = 'key.pem'", "ssl = on"):
            server.ask(f"ALTER SYSTEM SET {setting}")
        server.stop()
        server.start()
        yield server


async def is_encrypted(url: str) -> bool:
    """Return whether a connection by `url` uses TLS. Raises RecordsUnavailable."""
    database = Database(url)
    try:
        async with database.read_connection() as connection:
            found = await connection.execute(
                text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            )
            return bool(found.scalar())
    finally:
        await database.close()


@pytest.mark.parametrize(
    ("mode", "encrypted"),
    [("disable", False), ("allow", False), ("prefer", True), ("require", True)],
)
async def test_sslmode_selects_tls(server: PostgresServer, mode: str, encrypted: bool) -> None:
    assert await is_encrypted(f"{server.url()}?sslmode={mode}") is encrypted


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
async def test_sslrootcert_is_trusted(server: PostgresServer, mode: str) -> None:
    url = server.url().replace("127.0.0.1", "localhost")

    assert await is_encrypted(f"{url}?sslmode={mode}&sslrootcert={server.data}/cert.pem")


async def test_verify_full_refuses_another_host(server: PostgresServer) -> None:
    with pytest.raises(RecordsUnavailable):
        await is_encrypted(f"{server.url()}?sslmode=verify-full&sslrootcert={server.data}/cert.pem")


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
async def test_unknown_authority_is_refused(
    server: PostgresServer, tmp_path: Path, mode: str
) -> None:
    certificate(tmp_path)

    with pytest.raises(RecordsUnavailable):
        await is_encrypted(f"{server.url()}?sslmode={mode}&sslrootcert={tmp_path}/cert.pem")
