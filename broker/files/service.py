"""Files: keeps, returns, lists and deletes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from broker.apps.model import App
from broker.errors import BrokerError, InvalidRequest, Unavailable
from broker.files.errors import (
    FilesUnavailable,
    FileTooLarge,
    ScannerUnavailable,
    UnknownFile,
)
from broker.files.limits import UploadLimits
from broker.files.metrics import BYTES, FILES, UPLOAD
from broker.files.model import (
    Owner,
    Reservation,
    StoredFile,
    new_file_id,
    new_storage_key,
    owner_of,
)
from broker.files.offers import FileOffers
from broker.files.ports import FileQuota, FileRecords, FileStore, VirusScanner
from broker.files.upload import Content, Reception, Upload, check_sha256
from broker.infrastructure.background import BackgroundTasks
from broker.infrastructure.clock import Clock
from broker.infrastructure.observability.outage import OutageLog

log = structlog.get_logger()

RESERVATION_TTL = 180.0
"""Seconds after which a reservation of a process that has crashed ends. An upload takes at most
60 s, its scan 10 s, its webhook 3 s and its last part in the store 30 s."""

FORM_MAX_BYTES = 64 * 1024
"""Bytes of a request around its file."""

PAGE = 100
"""Files of a page of a list."""

CLEANUP_TIMEOUT = 1.0
"""Seconds for pending removals when the broker stops."""


class Holder(NamedTuple):
    """Sender of a request: a person with a session, or the app's own server.

    owner: of the files that it may read; None for all files of the app.
    shares: see `UploadLimits.uploading`.
    find_subject: returns the person's subject, None if it is not known.
    check: raises InvalidSession if the session has ended meanwhile.
    """

    app: App
    owner: Owner | None
    shares: Mapping[str, int]
    find_subject: Callable[[], Awaitable[str | None]]
    check: Callable[[], Awaitable[object]]

    @property
    def key(self) -> str:
        """The caller whose reads are limited together."""
        return self.app.key if self.owner is None else self.owner.person


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLimits:
    """max_bytes: of a file. quota_bytes: of an owner's files. lifetime: seconds."""

    max_bytes: int
    quota_bytes: int
    lifetime: int

    def max_of(self, app: App) -> int:
        return self.max_bytes if app.files_max is None else app.files_max

    def lifetime_of(self, app: App) -> int:
        return self.lifetime if app.files_lifetime is None else app.files_lifetime


class FileService:
    """scanner: None if files are not scanned."""

    def __init__(
        self,
        *,
        store: FileStore,
        records: FileRecords,
        quota: FileQuota,
        offers: FileOffers,
        scanner: VirusScanner | None,
        uploads: UploadLimits,
        limits: FileLimits,
        clock: Clock,
    ) -> None:
        self._store = store
        self._records = records
        self._quota = quota
        self._offers = offers
        self._scanner = scanner
        self._uploads = uploads
        self._limits = limits
        self._clock = clock
        self._removals = BackgroundTasks()
        self._outage = OutageLog("file upload unavailable", "file upload recovered")

    async def upload(self, holder: Holder, upload: Upload) -> StoredFile:
        """Keep a file. Raises the errors of `Reception`, QuotaExceeded and TooManyUploads."""
        app = holder.app.id
        try:
            person = None if holder.owner is None else holder.owner.person
            async with self._uploads.uploading(holder.shares, person=person):
                file = await self._upload(holder, upload)
        except BrokerError as error:
            FILES.labels(app, error.error).inc()
            if isinstance(error, FilesUnavailable | ScannerUnavailable):
                self._outage.failed(error.reason)
            raise
        self._outage.recovered()
        FILES.labels(app, "kept").inc()
        BYTES.labels(app, UPLOAD).inc(file.size)
        return file

    async def get(self, holder: Holder, file_id: str) -> StoredFile:
        """Return a file that the holder may read. Raises UnknownFile."""
        file = await self.find(file_id)
        owner = file.owner
        is_own = holder.owner is None or holder.owner.person == owner.person
        if owner.app != holder.app.key or not is_own:
            raise UnknownFile
        return file

    async def find(self, file_id: str) -> StoredFile:
        """Return a file of any owner. Raises UnknownFile."""
        file = await self._records.get(file_id, now=self._clock())
        if file is None:
            raise UnknownFile
        return file

    async def list(self, app: App, openid: str | None, after: str) -> Sequence[StoredFile]:
        """Return files after the id `after`, at most `PAGE`; those of one person, if given."""
        person = None if openid is None else owner_of(app, openid).person
        return await self._records.find(app.key, person, after=after, limit=PAGE, now=self._clock())

    async def delete(self, holder: Holder, file_id: str) -> None:
        """Delete a file. Raises UnknownFile, or FilesUnavailable; it is not deleted then."""
        file = await self.get(holder, file_id)
        await self._store.delete(file.key)
        await self._records.remove(file.id)

    async def close(self) -> None:
        """Wait for pending removals."""
        await self._removals.close(grace=CLEANUP_TIMEOUT)

    async def _upload(self, holder: Holder, upload: Upload) -> StoredFile:
        max_bytes = self._limits.max_of(holder.app)
        if upload.length is not None and upload.length > max_bytes + FORM_MAX_BYTES:
            raise FileTooLarge(f"file: larger than {max_bytes} bytes")
        await upload.open()
        owner = await self._owner(holder, upload)
        size = max_bytes if upload.length is None else min(upload.length, max_bytes)
        async with self._reserve(owner, size) as file_id:
            return await self._receive(holder, upload, owner, file_id)

    async def _owner(self, holder: Holder, upload: Upload) -> Owner:
        """Return the owner of a new file."""
        if holder.owner is None:
            return owner_of(holder.app, upload.fields.get("openid", ""))
        return holder.owner._replace(subject=await holder.find_subject())

    @asynccontextmanager
    async def _reserve(self, owner: Owner, size: int) -> AsyncIterator[str]:
        """Hold part of the owner's quota inside the block, and release it if the block raises."""
        now = self._clock()
        reservation = Reservation(new_file_id(), owner, size, now + RESERVATION_TTL)
        quota = self._limits.quota_bytes
        await self._quota.reserve(reservation, quota=quota, now=now)
        try:
            yield reservation.file_id
        except BaseException as error:
            removal = self._removals.spawn("file record", self._records.remove(reservation.file_id))
            if isinstance(error, Exception):  # the client may send the next file at once
                await asyncio.wait([removal])
            raise

    async def _receive(
        self, holder: Holder, upload: Upload, owner: Owner, file_id: str
    ) -> StoredFile:
        app, key = holder.app, new_storage_key(holder.app.id, now=self._clock())
        reception = Reception(
            store=self._store,
            scanner=self._scanner,
            key=key,
            max_bytes=self._limits.max_of(app),
            types=app.files_types,
        )
        try:
            content = await reception.receive(upload)
            file = self._describe(app, owner, upload, content, id=file_id, key=key)
            check_sha256(upload.fields.get("sha256"), file)
            await self._offers.ask(app, file)
            await holder.check()
            await reception.keep()
            await self._records.add(file)
        except BaseException:
            self._removals.spawn("dropped file", _drop(reception))
            raise
        finally:
            reception.close()
        return file

    def _describe(
        self, app: App, owner: Owner, upload: Upload, content: Content, *, id: str, key: str
    ) -> StoredFile:
        now, named = self._clock(), upload.fields.get("openid")
        if not owner.openid and named:
            raise InvalidRequest("openid: must come before the file")
        return StoredFile(
            id=id,
            owner=owner,
            key=key,
            size=content.size,
            media_type=content.media_type,
            sha256=content.sha256,
            purpose=upload.fields.get("purpose", ""),
            name=upload.name,
            created_at=now,
            expires_at=now + self._limits.lifetime_of(app),
        )


async def _drop(reception: Reception) -> None:
    with suppress(Unavailable):  # the hourly job deletes it
        await reception.drop()
