"""Storage ports of the OpenID Connect provider. Every method raises Unavailable."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple, Protocol

from broker.oidc.model import AuthorizationCode, AuthorizationRequest, Family, SignIn

SIGN_INS_MAX = 20
"""Sign-in sessions of one subject. The next one ends the one with the least time left."""

FAMILIES_MAX = 200
"""Families of one subject: 20 sessions with ten apps each. The next one ends the one with the
least time left. So one account cannot fill the state with grants."""

ENDED_TTL = 120.0
"""Seconds for which a state remembers that a session or family was ended. It is longer than any
concurrent act, and than the time in which a repeated form post makes the same session again."""

DROPPED_TTL = 90_000.0
"""Seconds for which a state remembers that a family without refresh tokens was dropped. It is
longer than any chat session lasts without use (`SCAN_LOGIN_CHAT_SESSION_LIFETIME`, at most a
day). So a session that the family opened is never taken for one whose family has expired."""

TOMBSTONE_TTL = 60.0
"""Seconds after a code's end for which its second use is recognised."""


class AuthorizationRequests(Protocol):
    """Stores authorization requests until they expire."""

    async def put(self, request: AuthorizationRequest) -> None:
        """Store a new request. Raises Unavailable if the store is full; nothing is stored then."""

    async def bind(self, request_id: str, cookie_hash: bytes, expires_at: float) -> bool:
        """Bind a request to a browser's cookie and set its end, and return whether it is bound.

        Of simultaneous calls one succeeds. A repeat with the same cookie succeeds.
        """

    async def get(self, request_id: str) -> AuthorizationRequest | None:
        """Return the request, also a completed one, or None if it has expired or is unknown."""

    async def complete(self, request_id: str, by: str) -> bool:
        """Set `completed_by` and return True; False if something else completed it or it expired.

        Of simultaneous calls with different `by` one succeeds. A repeat succeeds.
        """


class ReuseLog(Protocol):
    """Records reuses of refresh tokens in the audit log."""

    def record_reuse(
        self, login_id: str, *, app: str, incarnation: str, subject: str, now: float
    ) -> None:
        """Queue the time of the first reuse for writing, in the record of the login, and a separate
        entry.

        It does not wait and raises no error. A login without a record stays without one.
        """


class SignIns(Protocol):
    """Stores sign-in sessions until they end, by idle time or by an act."""

    async def save(self, sign_in: SignIn, expires_at: float) -> Sequence[SignIn]:
        """Store a session, and return those that it ended because its subject has too many.

        A session with this `sid` is replaced, its cookie changes, and `apps` are joined. A
        session that `end` has ended in the last `ENDED_TTL` seconds is not restored.
        """

    async def by_cookie(self, cookie_shard: str, cookie_hash: bytes) -> SignIn | None:
        """Return the session with this cookie.  cookie_shard: the cookie's first character."""

    async def of_subject(self, subject: str) -> Sequence[SignIn]:
        """Return the subject's active sessions, the oldest first."""

    async def touch(self, sign_in: SignIn, expires_at: float) -> bool:
        """Store `used_at`, join `apps` and set a later end. It never restores an ended session.

        Returns whether the session is active.
        """

    async def end(self, subject: str, sid: str) -> SignIn | None:
        """End a session, and return it as it was; None if it had ended before.

        A session of another subject stays. From then on no code works that it covers, and no
        family without `offline`, also one that is stored at the same time.
        """


class Unusable(Enum):
    """Why a code cannot be exchanged. A code that has expired is unknown."""

    UNKNOWN = "unknown"
    USED = "used"
    ENDED = "ended"


class FoundCode(NamedTuple):
    """The result of `Grants.find_code`.

    code: None if there is none to exchange; `why` says the reason.
    family: of a used code. The caller drops it.
    """

    code: AuthorizationCode | None
    why: Unusable | None = None
    family: str = ""


class FamilyState(NamedTuple):
    """A family, and whether its sign-in session is active. Both were read at the same time.

    in_grace: whether the previous refresh token returns the current one; see `Grants.swap`.
    """

    family: Family
    is_signed_in: bool
    in_grace: bool = False

    @property
    def is_active(self) -> bool:
        return self.is_signed_in or self.family.grant.offline


class Grants(Protocol):
    """Stores authorization codes and families.

    The first character of a code, and of a family's id, is the shard of its subject. `use_code`,
    `save`, `swap` and `drop` return when as many replicas as are configured hold the change. If
    they do not, these methods raise Unavailable, and the change may count or not.
    """

    async def save_code(self, shard: str, code_hash: bytes, code: AuthorizationCode) -> None:
        """Store a code until it expires. A repeat with the same hash changes nothing."""

    async def find_code(self, shard: str, code_hash: bytes) -> FoundCode:
        """Return a code. It changes nothing, so an exchange can be repeated that got no further.

        A code whose sign-in session has ended is `ENDED`.
        """

    async def use_code(self, shard: str, code_hash: bytes) -> None:
        """Replace a code by a tombstone that names its family.

        The tombstone lives until `TOMBSTONE_TTL` after the code would have expired.
        """

    async def save(self, family: Family, code_hash: bytes | None = None) -> bool:
        """Store a new family, and end those of its subject above `FAMILIES_MAX`.

        code_hash: of the family's code. The same step uses it, as `use_code` does. Of
            simultaneous calls over all instances one succeeds.
        Returns False, and stores nothing, if the code has been used or has expired, and if `drop`
        has ended the family or `SignIns.end` its sign-in session in the last `ENDED_TTL`
        seconds. So a code that was found before the end of the session gives no family after
        it, not even one with `offline`.
        """

    async def get(self, family_id: str) -> FamilyState | None:
        """Return the family, or None if it has ended, was dropped or never existed."""

    async def swap(
        self, before: Family, after: Family, *, idle: float, grace: float
    ) -> FamilyState | None:
        """Store `after` if the stored family has the `n` of `before`, and return what is stored.

        The family is `in_grace` for `grace` seconds from now. They count from the moment at which
        the state stores `after`, which may be long after the call during an outage.

        Of simultaneous swaps of one `n` one succeeds, and the others get its result. None if
        the family has ended or was dropped. The sign-in session, if it is active, is used:
        it ends `idle` seconds from now or later, but not after its `latest_end`. This is written
        once in a tenth of `idle`.
        """

    async def drop(self, family_id: str) -> Family | None:
        """End a family, and return it as it was; None if there was none.

        A `save` or `swap` at the same time, or up to `ENDED_TTL` later, does not restore it.
        """

    async def was_dropped(self, family_id: str) -> bool:
        """Return whether a family without refresh tokens was dropped within `DROPPED_TTL`.

        An id that no family has can be dropped too, and is remembered for as long.
        False for a family that has expired. A family above `FAMILIES_MAX`, and one with refresh
        tokens, is remembered for `ENDED_TTL` only.
        """

    async def of_subject(self, subject: str) -> Sequence[FamilyState]:
        """Return the subject's families, the oldest first."""
