"""Checks of the database and of the seal keys."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from broker.cli.checks.model import Failed, Installation, Skipped, Warned
from broker.infrastructure.crypto.sealing import SecretDecryptionFailed
from broker.records.settings import RecordsSettings
from broker.records.store import Records

NEW = "nothing on a new installation: the broker creates it; else correct SCAN_LOGIN_RECORDS_URL"


def is_new(installation: Installation) -> bool:
    """Return whether there is no SQLite file yet: to look into it would create it."""
    url = urlsplit(installation.settings[RecordsSettings].records_url)
    return url.scheme.startswith("sqlite") and not Path(url.path[1:]).exists()


async def check_tables(installation: Installation) -> str:
    """Raises RecordsStartupError for a database that does not answer."""
    records = installation.unopened_records
    if is_new(installation):
        raise Warned(f"{records.location} does not exist", NEW)
    status = await records.status()
    if status.revision is None:
        raise Warned(f"{records.location} has no tables", NEW)
    if status.missing:
        raise Failed(
            f"{records.location} lacks the revisions {', '.join(status.missing)}",
            "run scan-login records migrate, or start the broker",
        )
    return f"{records.location} is at revision {status.revision}"


async def check_seal_keys(installation: Installation) -> str:
    group = installation.settings[RecordsSettings]
    if is_new(installation) or (await installation.unopened_records.status()).missing:
        raise Skipped("the tables do not exist")
    if not group.seal_keys and not group.seal_file.exists():
        raise Warned(
            f"{group.seal_file.absolute()} does not exist",
            "nothing on a new installation: the broker creates it; else restore it from a backup",
        )
    records = installation.unopened_records
    await records.open()
    installation.records = records
    apps = [record.app.id for record in await records.app_admin.list()]
    problems = [problem for app in apps if (problem := _decryption_problem(records, app))]
    if problems:
        raise Failed("; ".join(problems))
    return f"the secrets of {len(apps)} apps can be decrypted"


def _decryption_problem(records: Records, app_id: str) -> str:
    try:
        records.apps.provider_secret(app_id)
        records.apps.webhook_secrets(app_id)
        records.apps.wafer_key(app_id)
    except SecretDecryptionFailed as error:
        return str(error)
    return ""
