"""Values that requests may have. The metadata lists them."""

from __future__ import annotations

from broker.oidc.model import ACR_MATCH, ACR_SCAN

RESPONSE_TYPES = ("code",)

RESPONSE_MODES = ("query", "form_post")

CHALLENGE_METHODS = ("S256",)

PROMPTS = ("none", "login", "select_account")

UI_LOCALES = ("en", "zh-CN")

ACR_VALUES = (ACR_SCAN, ACR_MATCH)

AUTHORIZATION_CODE_GRANT = "authorization_code"

REFRESH_TOKEN_GRANT = "refresh_token"  # noqa: S105 - a grant type
