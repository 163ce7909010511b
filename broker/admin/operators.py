"""Operators who have signed in by scan, with an access token of the broker's own provider."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

from broker.apps.model import ADMIN_APP
from broker.tokens.errors import InvalidToken
from broker.tokens.issuer import TokenIssuer, VerifiedAccessToken


class OperatorTokens:
    """Accepts access tokens of the app `scan-login-admin` whose subject is listed.

    subjects: of operators; without any, no access token is accepted.
    is_active: returns whether the token's sign-in has not ended, and its user is not blocked.
    """

    def __init__(
        self,
        *,
        issuer: TokenIssuer,
        subjects: Collection[str],
        is_active: Callable[[VerifiedAccessToken], Awaitable[bool]],
    ) -> None:
        self._issuer = issuer
        self._subjects = frozenset(subjects)
        self._is_active = is_active

    async def find(self, text: str) -> str | None:
        """Return the subject of an operator's token, or None. Raises Unavailable."""
        if not self._subjects:
            return None
        try:
            token = self._issuer.verify_access_token(text)
        except InvalidToken:
            return None
        if token.client_id != ADMIN_APP or token.subject not in self._subjects:
            return None
        return token.subject if await self._is_active(token) else None
