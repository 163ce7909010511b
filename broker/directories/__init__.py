"""Directories: each maps an identity to a subject, or refuses it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from urllib.parse import urlsplit

from broker.directories.settings import DirectorySettings
from broker.identity.ports import Directory
from broker.infrastructure.clock import Clock
from broker.infrastructure.settings import Settings
from broker.users.ports import UserLookup

DIRECTORIES: Mapping[str, str] = {
    "open": "broker.directories.open",
    "sql": "broker.directories.sql",
    "https": "broker.directories.webhook",
    "http": "broker.directories.webhook",
}
"""The module of each directory, by name or by the scheme of its URL."""


def open_directory(settings: Settings, users: UserLookup, clock: Clock) -> Directory:
    """Return the directory that the settings name, not yet connected.

    users: the users in the records.
    """
    value = settings[DirectorySettings].directory
    module = import_module(DIRECTORIES[urlsplit(value).scheme or value])
    directory: Directory = module.open_directory(settings, users, clock)
    return directory
