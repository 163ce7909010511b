"""The stores of logins, of their images and of finished logins."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple, Protocol

from broker.apps.model import App
from broker.identity.model import Identity
from broker.infrastructure.coordination import Notice
from broker.login.model import Browser, ConfirmedLogin, Login, Verdict


class AuditLog(Protocol):
    """Records finished logins."""

    def record(self, login: Login, *, now: float) -> None:
        """Queue the final state of `login` for writing. A repeat is recorded once.

        It does not wait and raises no error. Records that cannot be written are counted.
        """

    async def find(self, login_id: str) -> ConfirmedLogin | None:
        """Return a login that a person confirmed, or None if it has no record. Raises
        Unavailable."""

    async def report(self, login_id: str, *, now: float) -> bool:
        """Record that the person reports the login. Return whether it is the first report.

        A login that has no record gets none. A repeat writes nothing. Raises Unavailable.
        """


class RequestedLogin(NamedTuple):
    """The demands of an authorization request on its login.

    scope: the scopes that the phone shows; None to show those of the app.
    needs_match: whether `acr_values` asks for a match.
    """

    scope: tuple[str, ...] | None
    needs_match: bool = False


class LoginRequests(Protocol):
    """Reads authorization requests, which the OpenID Connect provider stores."""

    async def find(self, request_id: str, app: App) -> RequestedLogin | None:
        """Return an open request of `app`, or None if it is unknown, used or expired.

        Raises Unavailable.
        """


class KnownBrowsers(Protocol):
    """Recognises the browsers that people have signed in with on the broker's own pages."""

    async def identity_keys(self, cookies: str) -> tuple[str, ...]:
        """Return the keys of identities that use the browser (`identity_key`).

        cookies: the header `Cookie` of its handshake. It raises no error.
        """


LOGIN_RETENTION = 120
"""Seconds for which a login is stored after `expires_at`, so that a late browser or phone gets
the login's state and not an error about an unknown login."""


class SwapResult(IntEnum):
    """The result of a compare-and-set."""

    CONFLICT = 0
    """The login was changed before. Nothing is stored."""

    STORED = 1
    """The change is stored. No notice was sent."""

    STORED_AND_PUBLISHED = 2
    """The change is stored and the notice was sent."""


class ChangedLogins(NamedTuple):
    """Logins that may have changed.

    ids: of single logins.
    shards: each login of these shards may have changed (`infrastructure/sharding.py`).
    """

    ids: Collection[str]
    shards: Collection[str]


class LoginStore(Protocol):
    """Stores logins at least until `LOGIN_RETENTION` seconds after `expires_at`."""

    async def add(self, login: Login) -> None:
        """Store a new login, which can be read by id and by scene.

        A scene that is used again leads to the newer login.
        Raises Unavailable if the store is full. Nothing is stored then.
        """

    async def get(self, login_id: str) -> Login | None:
        """Return the stored login, or None."""

    async def by_scene(self, scene: str) -> Login | None:
        """Return the login that was last added with `scene`, or None."""

    async def swap(self, before: Login, after: Login, notice: Notice | None = None) -> SwapResult:
        """Store `after` if the stored login has the version of `before`.

        notice: for the instance of `before`. A state that also carries the bus sends it in the
            same round trip; otherwise the caller sends it.
        Of simultaneous swaps of one version, exactly one succeeds. If Unavailable is raised,
        the change may still have been stored.
        """

    async def changed(self, known: Mapping[str, int]) -> dict[str, Login | None]:
        """Return the logins whose version is not the known one; None for a deleted login.

        known: versions by login id. A login that has not changed costs little.
        """

    async def take_changes(self, instance: str, shards: Sequence[str]) -> ChangedLogins:
        """Return the logins in these shards that were changed with a notice for `instance`.

        Each change is returned once, by the first call after it, whether its notice arrived or
        not. If the changes of a shard are not known, the whole shard is returned. Raises no error.
        """

    async def secure(self, login: Login) -> None:
        """Return once the stored login would survive the loss of a server.

        Raises Unavailable if that is not possible now. The stored login is unchanged.
        """


class Images(Protocol):
    """Images of codes that were drawn live, for a page that shows a login's code again.

    A cache: a missing image is drawn again.
    """

    async def put(self, login: Login, url: str) -> None:
        """Store the image, as a URL, until the login's code expires."""

    async def get(self, login: Login) -> str | None:
        """Return the image of the login's code, or None."""


class UserCodes(Protocol):
    """The logins of user codes, until `LOGIN_RETENTION` seconds after their `expires_at`."""

    async def claim(self, code: str, login: Login) -> bool:
        """Store the code for `login`. Return False if another login has it.

        A repeat for the same login returns True. Raises Unavailable if the store is full.
        """

    async def extend(self, code: str, login: Login) -> None:
        """Keep the code of `login` after a change of its `expires_at`. Raises Unavailable."""

    async def find(self, code: str) -> str | None:
        """Return the id of the login that has the code, or None."""


class ReportedLogin(NamedTuple):
    """A login that its user reports as not begun by the user.

    app, incarnation: of the login. at: when the user reported it, Unix time in seconds.
    """

    app: str
    incarnation: str
    login_id: str
    subject: str
    at: float


class LoginReports(Protocol):
    """Informs apps of reported logins."""

    async def login_reported(self, report: ReportedLogin) -> None:
        """Queue an event for the login's app. Raises Unavailable."""


class SignInEnds(Protocol):
    """Ends sign-in sessions, which the OpenID Connect provider stores."""

    async def end_of_login(self, subject: str, login_id: str) -> int:
        """End the sessions that a login began, with all families. Returns how many ended.

        Chats that began with its token end too. Raises Unavailable.
        """


class PolicyCase(NamedTuple):
    """The first scan of a login, for a policy to judge.

    app, login_id: of the login. began_at: when it began, Unix time in seconds.
    known: whether a cookie of the browser belongs to the identity.
    phone_ip, how: of the phone: its address, and WeChat's launch scene, if the phone sent one.
    identity: of the user who holds the phone.
    """

    app: str
    login_id: str
    began_at: float
    browser: Browser
    known: bool
    phone_ip: str
    how: int | None
    identity: Identity


class LoginPolicy(Protocol):
    """Judges the first scan of each login."""

    async def open(self) -> None:
        """Prepare for use without waiting for another service."""

    async def close(self) -> None: ...

    async def judge(self, case: PolicyCase) -> Verdict:
        """Return the verdict. A policy that cannot decide returns a challenge, and never raises."""
