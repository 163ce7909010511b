"""Check of the owners of the broker's files, for root, who can read the files of every user."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from broker.cli.checks.model import Failed, Installation, Skipped
from broker.records.settings import RecordsSettings
from broker.tokens.settings import TokenSettings

ROOT = 0


async def check_owners(installation: Installation) -> str:
    if os.geteuid() != ROOT:
        raise Skipped("this user is not root, and the other checks read the files as this user")
    paths = [path for path in _secret_paths(installation) if path.exists()]
    problems = list(_problems(paths))
    if problems:
        raise Failed("; ".join(problems))
    return f"the owners of {len(paths)} files are as expected"


def _secret_paths(installation: Installation) -> Iterator[Path]:
    """Yield the files that only the broker's user reads, the database first."""
    records = installation.settings[RecordsSettings]
    url = urlsplit(records.records_url)
    if url.scheme.startswith("sqlite"):
        yield Path(url.path[1:]).absolute()
    yield records.seal_file.absolute()
    yield installation.settings[TokenSettings].key_file.absolute()


def _problems(paths: Sequence[Path]) -> Iterator[str]:
    """Compare each file with its folder; with the first file, if root owns the folder."""
    for path in paths:
        expected = path.parent if path.parent.stat().st_uid != ROOT else paths[0]
        if path.stat().st_uid != expected.stat().st_uid:
            yield f"{path} belongs to {_owner(path)}, and {expected} to {_owner(expected)}"


def _owner(path: Path) -> str:
    uid = path.stat().st_uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"the user {uid}"
