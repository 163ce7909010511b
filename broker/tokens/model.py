"""The grant of an access token, as features see it that accept the token."""

from __future__ import annotations

from typing import NamedTuple


class AccessGrant(NamedTuple):
    """A grant with which its tokens end.

    family: the id of the tokens that follow from the grant.
    sid: its sign-in session; empty for a login without one, which ends if it is reported.
    ends_at: Unix time in seconds at which the family ends by itself, because the app has no
        refresh token; 0 for a family that its app can extend.
    """

    family: str
    sid: str
    ends_at: float
