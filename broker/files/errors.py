"""Errors of files."""

from __future__ import annotations

from broker.errors import BrokerError, InvalidRequest, RateLimited, Unavailable


class UnsupportedMediaType(BrokerError):
    """The first bytes are not those of a type that the app allows."""

    error, status = "unsupported_media_type", 415
    description = "file: the content is not of a type that this app accepts"


class FileTooLarge(BrokerError):
    error, status = "too_large", 413
    description = "file: too large"


class QuotaExceeded(BrokerError):
    error, status = "quota_exceeded", 403
    description = "the files of this person use up the quota; delete some first"


class UnknownFile(BrokerError):
    """The file never existed, was deleted, has expired, or belongs to another person or app."""

    error, status = "unknown_file", 404
    description = "no such file, or the URL has expired"


class InfectedFile(BrokerError):
    error, status = "infected", 422
    description = "the virus scanner refuses this file"


class FileRefused(BrokerError):
    error, status = "access_denied", 403
    description = "the site does not accept this file"


class RangeNotSatisfiable(InvalidRequest):
    error, status = "invalid_request", 416
    description = "Range: begins after the end of the file"


class TooManyUploads(RateLimited):
    """The session or the person has as many uploads as it may have."""


class UploadsBusy(Unavailable):
    description = "the broker receives as many files as it can; try again"


class DownloadsBusy(Unavailable):
    description = "too many files are being read; try again"


class FilesUnavailable(Unavailable):
    """The file store cannot be used. `reason` is logged and never sent to clients."""

    description = "the file store is unavailable; try again"

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason


class ScannerUnavailable(Unavailable):
    """The virus scanner gives no verdict. `reason` is logged and never sent to clients."""

    description = "the virus scanner is unavailable; try again"

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason


class OfferUnavailable(Unavailable):
    description = "the site does not answer whether it accepts the file; try again"
