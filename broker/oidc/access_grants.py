"""The grants of access tokens, for features that accept a token and serve its user for longer."""

from __future__ import annotations

from broker.apps.model import App
from broker.infrastructure.clock import Clock
from broker.oidc.families import Families, family_of, login_family
from broker.oidc.ports import Grants, SignIns
from broker.tokens.errors import InvalidToken
from broker.tokens.issuer import VerifiedAccessToken
from broker.tokens.model import AccessGrant

EXPIRY_TOLERANCE = 5.0
"""Seconds before its end at which a family may have expired: the state and this instance may
read the clock at different moments."""


class AccessGrants:
    """Finds grants, and tells whether they have been ended. Every method raises Unavailable."""

    def __init__(
        self, *, families: Families, grants: Grants, sign_ins: SignIns, clock: Clock
    ) -> None:
        self._families = families
        self._grants = grants
        self._sign_ins = sign_ins
        self._clock = clock

    async def find(self, token: VerifiedAccessToken, app: App) -> AccessGrant:
        """Return the grant.

        Raises InvalidToken if the grant or its sign-in session has ended, or if the directory
        refuses the user. The grant of a token without a sign-in session ends with a report.
        """
        family_id = family_of(token)
        if family_id is None:
            return await self._of_login(token)
        active = await self._families.with_profile(family_id, app)
        if active is None:
            raise InvalidToken
        family = active.family
        return AccessGrant(family_id, family.grant.sid, 0 if family.n else family.expires_at)

    async def _of_login(self, token: VerifiedAccessToken) -> AccessGrant:
        grant = AccessGrant(login_family(token.subject, token.id), "", 0)
        if not await self.is_active(grant, token.subject):
            raise InvalidToken
        return grant

    async def is_active(self, grant: AccessGrant, subject: str) -> bool:
        """Return whether neither the grant nor its sign-in session was ended.

        A family without refresh tokens ends with its only access token. From then on the
        sign-in session alone decides, unless the family was dropped before.
        """
        if not grant.sid:
            return not await self._grants.was_dropped(grant.family)
        state = await self._grants.get(grant.family)
        if state is not None:
            return state.is_active
        if not grant.ends_at or self._clock() < grant.ends_at - EXPIRY_TOLERANCE:
            return False
        if await self._grants.was_dropped(grant.family):
            return False
        return any(one.sid == grant.sid for one in await self._sign_ins.of_subject(subject))
