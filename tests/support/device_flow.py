"""The grant type of RFC 8628."""

from __future__ import annotations

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
