"""Who an identity is here, or that it is unknown."""

from __future__ import annotations

NAMES = ("open", "sql", "https", "http")
"""The directories that can be chosen; the last two by the URL of a site's webhook."""
