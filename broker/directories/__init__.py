"""Directories: each maps an identity to a subject, or refuses it."""

from __future__ import annotations

NAMES = ("open", "sql", "https", "http")
"""The directories that can be chosen; the last two by the URL of a site's webhook."""
