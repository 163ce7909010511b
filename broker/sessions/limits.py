"""Rate limits of sessions."""

from __future__ import annotations

APP_SERVER_FACTOR = 10
"""An app's own servers may open as many sessions as this number of addresses."""
