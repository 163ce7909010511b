"""Where logins are stored and finished logins are recorded."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Protocol

from broker.infrastructure.coordination import Notice
from broker.login.model import Login


class AuditLog(Protocol):
    def record(self, login: Login, *, now: float) -> None:
        """Write down, soon, that `login` has ended as it says; one noted twice stands once.

        Never waits and never fails: what cannot be written in the end is counted.
        """


LOGIN_RETENTION = 120
"""Seconds for which a login is kept past its end, so that a late browser or phone
hears what became of it rather than that there never was one."""


class SwapResult(IntEnum):
    """What became of a swap."""

    CONFLICT = 0
    """Another change was first."""

    STORED = 1
    """The change is stored, and nobody has been told."""

    STORED_AND_PUBLISHED = 2
    """It is stored, and the notice has gone out with it."""


class LoginStore(Protocol):
    """Where logins are kept, at least until `LOGIN_RETENTION` seconds past their end."""

    async def add(self, login: Login) -> None:
        """Keep a new login, findable by id and by scene.

        A scene that is used again finds the newer login from then on.
        Raises Unavailable when there is no room, and then nothing is kept.
        """

    async def get(self, login_id: str) -> Login | None:
        """The login as it was last stored, or None."""

    async def by_scene(self, scene: str) -> Login | None:
        """The login that was last added under `scene`, or None."""

    async def swap(self, before: Login, after: Login, notice: Notice | None = None) -> SwapResult:
        """Store `after` if what is stored is still `before` (same version).

        `notice` is for the instance of `before`.  A state that the bus lies in sends it
        in the same trip; otherwise it is left to whoever asked.
        Of any number of simultaneous swaps of one version, one succeeds.  Where
        Unavailable is raised it may have been stored all the same.
        """

    async def changed(self, known: Mapping[str, int]) -> dict[str, Login | None]:
        """Those of the logins in `known` whose version is another now, or that are gone (None).

        `known` maps ids to versions.  Cheap for those that have not changed.
        """

    async def secure(self, login: Login) -> None:
        """Return once what is stored of `login` would outlive the loss of a server.

        Raises Unavailable where that cannot be had now; what is stored stays.
        """


class Images(Protocol):
    """Images of codes that were drawn live, for a page that shows a login's code again.

    A cache: a missing image is drawn again.
    """

    async def put(self, login: Login, url: str) -> None:
        """Keep the image, as a URL, until the login's code expires."""

    async def get(self, login: Login) -> str | None:
        """The image of the login's code, or None."""
