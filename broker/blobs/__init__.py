"""Stores pictures and files in a folder or an object store."""

from __future__ import annotations

SCHEMES = ("az", "file", "gs", "s3")
"""The URL schemes of stores."""
