"""The ports of directories and providers."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import NamedTuple, NoReturn, Protocol

from broker.identity.model import Identity, UserProfile


class Directory(Protocol):
    """Maps identities to the subjects of tokens."""

    async def open(self) -> None:
        """Prepare for use without waiting for another service."""

    async def close(self) -> None: ...

    async def find(self, identity: Identity) -> UserProfile:
        """Return the user of `identity`. The subject is always the same one.

        Raises UnregisteredUser for an unknown user, UserBlocked for a user who may not log in,
        and Unavailable if the directory cannot decide.
        """


class CodePicture(NamedTuple):
    """An image that an `<img>` can show, and its media type."""

    content: bytes
    media_type: str

    def data_url(self) -> str:
        return f"data:{self.media_type};base64,{base64.b64encode(self.content).decode()}"


class SecretText:
    """A secret that no repr, log or traceback shows. Only `reveal` returns it."""

    __slots__ = ("_secret",)

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def reveal(self) -> str:
        return self._secret

    def __repr__(self) -> str:
        return "SecretText()"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a SecretText cannot be pickled")


class IdentityProof(NamedTuple):
    """The result of verifying a `js_code`.

    identity: of the user who holds the phone.
    session_key: the key with which the phone's mini program signs and encrypts, if the
        provider has one. It stays on the server: it is in no response, token or log.
    """

    identity: Identity
    session_key: SecretText | None = None


class UserDataVerifier(Protocol):
    """Verifies data about the user that a mini program sends.

    The provider's app has signed or encrypted it with the session_key of the last login.
    """

    def is_signed(self, raw_data: str, signature: str, session_key: SecretText) -> bool:
        """Return whether `signature` is the signature of `raw_data` by that key."""

    def decrypt(
        self, encrypted_data: str, iv: str, session_key: SecretText
    ) -> Mapping[str, object]:
        """Return the decrypted data.

        Raises UserDataDecryptionFailed, also for data that was encrypted for another app.
        """


class Provider(Protocol):
    """Draws codes and verifies which user holds a phone."""

    name: str
    """The token's `idp`."""

    user_data: UserDataVerifier | None
    """None if the provider does not sign or encrypt user data."""

    scene_max: int
    """The most characters of a scene."""

    def link(self, scene: str) -> str | None:
        """Return the URL in the code of `scene`; None for a code that only WeChat can read."""

    async def open(self) -> None:
        """Prepare for use without waiting for another service."""

    async def close(self) -> None:
        """Close all connections."""

    async def draw(self, scene: str) -> CodePicture:
        """Return a code that contains `scene`. Raises ProviderUnavailable."""

    async def identify(self, js_code: str) -> IdentityProof:
        """Return the identity of the user who holds the phone that sent `js_code`.

        Raises InvalidProof for an invalid `js_code`, ProviderBlockedUser or
        ProviderRateLimited for a user whom the provider refuses, and ProviderUnavailable if
        the provider cannot decide.
        """

    async def phone_number(self, code: str, identity: Identity) -> str:
        """Return the verified phone number of `identity`, such as `+8613800138000` (E.164).

        code: the mini program gets it when the user taps the button for the phone number.
        Raises InvalidPhoneNumberCode for an invalid code, and ProviderUnavailable if the
        provider cannot decide.
        """
