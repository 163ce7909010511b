"""Checks of the store of files, and of the virus scanner."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from broker.backends import open_files
from broker.blobs.settings import BlobSettings
from broker.cli.checks.model import Failed, Installation, Skipped
from broker.files.clamd import ClamdScanner
from broker.files.errors import FilesUnavailable, ScannerUnavailable
from broker.files.settings import FileSettings
from broker.infrastructure.crypto.secret_file import OTHER_USER


async def check_store(installation: Installation) -> str:
    """Read one page of the list of files. To open a missing folder would create it."""
    store = open_files(installation.settings)
    if store is None:
        raise Skipped("there is no store of files")
    url = urlsplit(installation.settings[BlobSettings].files_url)
    if url.scheme == "file" and not _is_created(Path(unquote(url.path))):
        return f"the first upload creates {unquote(url.path)}"
    try:
        await anext(store.keys_before(0.0), None)
    except FilesUnavailable as error:
        raise Failed(error.reason) from None
    return f"{store.location} can be listed"


def _is_created(folder: Path) -> bool:
    """Return whether the folder exists. Raises Failed if this user cannot write to it."""
    if folder.exists() and not os.access(folder, os.W_OK):
        raise Failed(f"this user cannot write to {folder}", OTHER_USER)
    return folder.exists()


async def check_scanner(installation: Installation) -> str:
    socket = installation.settings[FileSettings].clamd
    if socket is None:
        raise Skipped("files are not scanned")
    try:
        await ClamdScanner(socket).ping()
    except ScannerUnavailable as error:
        raise Failed(error.reason) from None
    return f"clamd answers at {socket}"
