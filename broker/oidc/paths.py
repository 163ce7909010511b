"""The paths of the provider's endpoints, below the public URL."""

from __future__ import annotations

AUTHORIZATION_PATH = "/oauth/authorize"

LOGIN_PATH = "/oauth/login"

TOKEN_PATH = "/oauth/token"  # noqa: S105 - a path

USERINFO_PATH = "/oauth/userinfo"

INTROSPECTION_PATH = "/oauth/introspect"

REVOCATION_PATH = "/oauth/revoke"

PUSHED_REQUEST_PATH = "/oauth/par"

END_SESSION_PATH = "/oauth/logout"

READABLE_BY_PAGES = frozenset({"token", "userinfo", "revoke", "device_authorization"})
"""Endpoints below `/oauth` whose responses pages of other origins may read."""
