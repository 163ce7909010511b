"""Providers: each draws codes and verifies who holds the phone."""

from __future__ import annotations

NAMES = ("pretend", "wechat")
"""What the setting `provider` may say; `broker/parts.py` knows how each is made."""
