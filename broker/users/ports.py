"""Storage protocols of registered users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from broker.identity.model import Identity, UserProfile
from broker.users.model import Invitation, RegisteredUser, User


class UserLookup(Protocol):
    """Finds the user of an identity.  Every method raises UserBlocked or Unavailable."""

    async def find(self, identity: Identity) -> UserProfile | None:
        """Return the user who has `identity`, or None."""

    async def link_by_unionid(self, identity: Identity) -> UserProfile | None:
        """Link `identity` to the user with the same `unionid`.

        Return the user, or None if there is no such user.
        """


class EndedSubjects(NamedTuple):
    """Users who were blocked or removed. number: the argument of the next `after`."""

    number: int
    subjects: Sequence[str]


class EndedSubjectLog(Protocol):
    """The users who were blocked or removed in the last day, by any process."""

    async def after(self, number: int) -> EndedSubjects:
        """Return those after `number`, or all with 0, who still may not log in.

        Raises Unavailable.
        """

    async def wait(self, number: int) -> None:
        """Wait until there may be users after `number`, at most two seconds longer."""


class UserRegistration(Protocol):
    async def register(self, identity: Identity, invitation: str) -> RegisteredUser:
        """Link `identity` to the user who was invited, and use the invitation.

        A repeat by the same identity returns the same user and changes nothing.
        Raises InvalidInvitation, IdentityAlreadyLinked, UserBlocked or Unavailable; the
        invitation stays unused then.
        """


class PhoneNumbers(Protocol):
    """Stores phone numbers that a provider has verified."""

    async def set_phone_number(self, identity: Identity, number: str) -> None:
        """Store the number of the user who has `identity`, as a verified one.

        Raises UnregisteredUser, UserBlocked or Unavailable; nothing has changed then.
        """


class UserAdmin(Protocol):
    """Lists and changes users.

    Every method raises Unavailable if the records are unavailable; nothing has changed then.
    """

    async def list(self, *, after: str, limit: int) -> Sequence[User]:
        """Return at most `limit` users by id, from the first one after `after`."""

    async def get(self, user_id: str) -> User:
        """Raises UserNotFound."""

    async def add(self, fields: Mapping[str, object]) -> User:
        """Add a user, with a generated id if `fields` has none.

        Raises InvalidUser or UserAlreadyExists.
        """

    async def update(self, user_id: str, fields: Mapping[str, object]) -> User:
        """Change the given fields only.  Raises InvalidUser or UserNotFound."""

    async def remove(self, user_id: str) -> None:
        """Delete a user with all identities and invitations.  Raises UserNotFound."""


class IdentityAdmin(Protocol):
    """Changes the identities of users.

    Every method raises UserNotFound or InvalidUser, or Unavailable if the records are
    unavailable; nothing has changed then.
    """

    async def link(self, user_id: str, fields: Mapping[str, object]) -> User:
        """Link an identity to the user.  Raises IdentityAlreadyLinked if another user has it."""

    async def unlink(self, user_id: str, fields: Mapping[str, object]) -> User:
        """Remove an identity and all invitations of the user.  Raises IdentityNotFound."""

    async def invite(self, user_id: str, fields: Mapping[str, object]) -> Invitation:
        """Return a new invitation, which links one phone to the user within `expires_in`.

        The user's previous invitation is invalid from then on.
        """
