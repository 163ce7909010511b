"""What a provider and a directory do."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import NamedTuple, NoReturn, Protocol

from broker.identity.model import Identity


class Directory(Protocol):
    async def open(self) -> None:
        """Get ready, and wait for nobody outside."""

    async def close(self) -> None: ...

    async def find(self, identity: Identity) -> str:
        """The subject, the token's `sub`, that `identity` is here: always the same one.

        Raises UnregisteredUser for somebody unknown, UserBlocked for one who is let in no
        more, Unavailable when it cannot be told.
        """


class CodePicture(NamedTuple):
    """An image that an `<img>` can show, and its media type."""

    content: bytes
    media_type: str

    def data_url(self) -> str:
        return f"data:{self.media_type};base64,{base64.b64encode(self.content).decode()}"


class SecretText:
    """A secret that no repr, log or traceback shows.  It is read by `reveal` alone."""

    __slots__ = ("_secret",)

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def reveal(self) -> str:
        return self._secret

    def __repr__(self) -> str:
        return "Sealed()"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a sealed secret is written down nowhere by accident")


class IdentityProof(NamedTuple):
    """What a js_code has proved.

    identity: who holds the phone.
    session_key: what that phone's mini program signs and encrypts with, where the
        provider has one.  It stays on the server: no wire, no token, no log.
    """

    identity: Identity
    session_key: SecretText | None = None


class UserDataVerifier(Protocol):
    """What a phone's own page sends of its person, signed or encrypted by the provider's app
    with the session_key of its last login."""

    def is_signed(self, raw_data: str, signature: str, session_key: SecretText) -> bool:
        """Whether `signature` is that key's for `raw_data`."""

    def decrypt(
        self, encrypted_data: str, iv: str, session_key: SecretText
    ) -> Mapping[str, object]:
        """What was encrypted for this very app.  Raises UserDataDecryptionFailed, alike for all
        causes.
        """


class Provider(Protocol):
    name: str
    """The token's `idp`."""

    user_data: UserDataVerifier | None
    """None where it neither signs nor encrypts."""

    scene_max: int
    """Characters that a scene may have."""

    async def open(self) -> None:
        """Get ready to draw and identify; it waits for nobody outside."""

    async def close(self) -> None:
        """Let go of everything held open."""

    async def draw(self, scene: str) -> CodePicture:
        """Return the code that contains `scene`.  Raises ProviderUnavailable."""

    async def identify(self, js_code: str) -> IdentityProof:
        """Who holds the phone that sent `js_code`.

        Raises InvalidSession when the proof is worth nothing, ProviderBlockedUser or
        ProviderRateLimited for somebody whom the provider turns away, ProviderUnavailable
        when it cannot be told now.
        """
