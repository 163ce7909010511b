"""Metrics of files."""

from __future__ import annotations

from broker.infrastructure.observability.metrics import Counter, Histogram

FILES = Counter("scanlogin_files", "Uploads of files by outcome", ["app", "outcome"])

BYTES = Counter("scanlogin_files_bytes", "Bytes of files by direction", ["app", "direction"])

SECONDS = Histogram(
    "scanlogin_file_seconds",
    "Seconds of uploads and downloads of files",
    ["direction"],
    buckets=(0.05, 0.2, 1.0, 5.0, 20.0, 60.0),
)

OFFERS = Counter(
    "scanlogin_file_offers", "Answers of sites to file.offered by outcome", ["outcome"]
)

UPLOAD, DOWNLOAD = "upload", "download"
"""The values of the label `direction`."""
