"""Secrets that can be read again, by the broker alone: AES-256-GCM, bound to their app.

A seal key is 32 random bytes, and its id follows from it.  Several may be known;
the newest seals, and whichever is named opens.  What is sealed for one app opens
for no other: the app's id is the additional data.

A session's secrets are too many for one key.  Each is sealed under a key of its own,
made of the seal key and the skey that only its phone holds: whoever has both the state
and the seal keys opens none.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from broker.errors import Unavailable
from broker.infrastructure.crypto.secret_file import SecretFile

KEY_BYTES = 32

NONCE_BYTES = 12
"""NIST SP 800-38D: 96 bits, and at most 2^32 random ones for a key; we seal a few hundred
under one, and a session's under a key of its own."""

KeyList = Sequence[bytes]
"""Newest first."""


class EncryptedSecret(NamedTuple):
    """content: nonce, ciphertext and tag.  key: the id of the key."""

    ciphertext: bytes
    key_id: str


def parse_key(text: str) -> bytes:
    """A key as it stands in settings; raises ValueError, which repeats nothing of it."""
    try:
        key = base64.b64decode(text, altchars=b"-_", validate=True)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError(f"want {KEY_BYTES} bytes in base64: openssl rand -base64 {KEY_BYTES}")
    return key


def key_id(key: bytes) -> str:
    return hashlib.sha256(b"scan-login seal key " + key).hexdigest()[:16]


class SealKeyFile:
    """Seal keys in a file for its owner alone.  Raises KeyFileError."""

    def __init__(self, path: Path) -> None:
        self._file = SecretFile(path)

    def keys(self) -> KeyList:
        """The keys; one is made at the first start, by one of those that start at once."""
        text = self._file.read()
        if text is None:
            self._file.create(_written([secrets.token_bytes(KEY_BYTES)]))
            text = self._file.read()
        if text is None:
            raise self._file.missing_error()
        try:
            keys = [parse_key(key) for key in json.loads(text)["keys"]]
        except (ValueError, KeyError, TypeError):
            raise self._file.damaged_error() from None
        if not keys:
            raise self._file.damaged_error()
        return keys

    def add(self) -> None:
        """Make a newer key; the others stay, for what they have sealed."""
        self._file.replace(_written([secrets.token_bytes(KEY_BYTES), *self.keys()]))


def _written(keys: Iterable[bytes]) -> str:
    return json.dumps({"keys": [base64.b64encode(key).decode() for key in keys]}, indent=2)


class SecretBox:
    """load: gets the keys, at the start and whenever one is met that is not known yet."""

    def __init__(self, load: Callable[[], KeyList]) -> None:
        self._load = load
        self._known: Mapping[str, bytes] = {}
        self.newest_key_id = ""

    def load(self) -> None:
        """Know the keys, from now on; raises KeyFileError."""
        keys = self._load()
        self._known = {key_id(key): key for key in keys}
        self.newest_key_id = key_id(keys[0])

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the known keys, the newest first."""
        return tuple(self._known)

    def encrypt(self, secret: str, app_id: str, skey: str | None = None) -> EncryptedSecret:
        """skey: whose session the secret belongs to; opens with that skey alone."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        key = AESGCM(_own(self._known[self.newest_key_id], skey))
        return EncryptedSecret(
            nonce + key.encrypt(nonce, secret.encode(), app_id.encode()), self.newest_key_id
        )

    def decrypt(self, sealed: EncryptedSecret, app_id: str, skey: str | None = None) -> str:
        """Raises SecretDecryptionFailed for an unknown key, another app's secret, or a changed
        one.
        """
        if sealed.key_id not in self._known:
            self.load()
        key = self._known.get(sealed.key_id)
        if key is None:
            raise SecretDecryptionFailed(
                f"the secret of app {app_id} is sealed under the key {sealed.key_id}, "
                "which is not known here"
            )
        nonce, ciphertext = sealed.ciphertext[:NONCE_BYTES], sealed.ciphertext[NONCE_BYTES:]
        try:
            return AESGCM(_own(key, skey)).decrypt(nonce, ciphertext, app_id.encode()).decode()
        except InvalidTag:
            raise SecretDecryptionFailed(
                f"what is recorded as the secret of app {app_id} was not sealed for it; set it anew"
            ) from None


def _own(key: bytes, skey: str | None) -> bytes:
    if skey is None:
        return key
    return hmac.digest(key, b"scan-login session " + skey.encode(), "sha256")


class SecretDecryptionFailed(Unavailable):
    """An app's secret is sealed under a key that is not known here, or was tampered with."""
