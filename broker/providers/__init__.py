"""Draw codes and prove who holds the phone: two verbs."""

from __future__ import annotations

NAMES = ("pretend", "wechat")
"""What the setting `provider` may say; `broker/parts.py` knows how each is made."""
