"""Pictures in a folder or an object store."""

from __future__ import annotations

SCHEMES = ("az", "file", "gs", "s3")
"""How a pictures' URL begins."""
