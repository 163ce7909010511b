"""Settings of files."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from broker.infrastructure.settings import InvalidField, Seconds, SettingsGroup


class FileSettings(SettingsGroup):
    files_max_bytes: int = Field(
        10 * 1024 * 1024, gt=0, description="bytes of a file, for apps without `files_max`"
    )
    files_quota_bytes: int = Field(
        100 * 1024 * 1024, gt=0, description="bytes of all files of one person in one app"
    )
    files_per_hour: int = Field(60, gt=0, description="uploads of one person in an hour")
    files_lifetime: Seconds = Field(
        30 * 86_400, description="seconds for which files of apps without `files_lifetime` are kept"
    )
    files_direct: bool = Field(
        False, description="whether downloads are redirected to signed URLs of the store"
    )
    clamd: Path | None = Field(
        None, description="Unix socket of ClamAV's daemon, which checks every file"
    )

    @model_validator(mode="after")
    def _check_quota(self) -> FileSettings:
        if self.files_max_bytes > self.files_quota_bytes:
            raise InvalidField("files_max_bytes", "must not exceed SCAN_LOGIN_FILES_QUOTA_BYTES")
        return self
