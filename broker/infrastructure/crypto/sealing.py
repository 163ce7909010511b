"""Encryption of stored secrets: AES-256-GCM, bound to their app.

A seal key has 32 random bytes, and its id is computed from it. Several keys may be known: the
newest encrypts, and each secret names the key that decrypts it. The app's id is the additional
data, so that the secret of one app cannot be decrypted for another.

Sessions have too many secrets for one key. The secret of a session is encrypted with a key that
is derived from the seal key and the session's skey, which only the phone has. So the state and
the seal keys together do not suffice to decrypt it.
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
"""96 bits, with at most 2^32 random nonces for a key (NIST SP 800-38D). A seal key encrypts a few
hundred secrets, and a session's key encrypts one."""

KeyList = Sequence[bytes]
"""Newest first."""


class EncryptedSecret(NamedTuple):
    """ciphertext: with the nonce before it and the tag after it."""

    ciphertext: bytes
    key_id: str


def parse_key(text: str) -> bytes:
    """Return the key of a setting. Raises ValueError, whose message contains no part of it."""
    try:
        key = base64.b64decode(text, altchars=b"-_", validate=True)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError(f"use {KEY_BYTES} bytes in base64: openssl rand -base64 {KEY_BYTES}")
    return key


def key_id(key: bytes) -> str:
    return hashlib.sha256(b"scan-login seal key " + key).hexdigest()[:16]


class SealKeyFile:
    """Seal keys in a file with mode 0600. Every method raises KeyFileError."""

    def __init__(self, path: Path) -> None:
        self._file = SecretFile(path)

    def keys(self) -> KeyList:
        """Return the keys. If there is no file, create it with one key.

        If several processes start at once, one of them creates it.
        """
        keys = self.load()
        if keys is None:
            self._file.create(_to_json([secrets.token_bytes(KEY_BYTES)]))
            keys = self.load()
        if keys is None:
            raise self._file.missing_error()
        return keys

    def load(self) -> KeyList | None:
        """Return the keys, or None if there is no file."""
        text = self._file.read()
        if text is None:
            return None
        try:
            keys = [parse_key(key) for key in json.loads(text)["keys"]]
        except (ValueError, KeyError, TypeError):
            raise self._file.damaged_error() from None
        if not keys:
            raise self._file.damaged_error()
        return keys

    def add(self) -> None:
        """Add a newer key. The others stay, to decrypt what they have encrypted."""
        self._file.replace(_to_json([secrets.token_bytes(KEY_BYTES), *self.keys()]))


def _to_json(keys: Iterable[bytes]) -> str:
    return json.dumps({"keys": [base64.b64encode(key).decode() for key in keys]}, indent=2)


class SecretBox:
    """Encrypts and decrypts secrets.

    load: reads the keys, at the start and when a secret names an unknown key.
    """

    def __init__(self, load: Callable[[], KeyList]) -> None:
        self._load = load
        self._known: Mapping[str, bytes] = {}
        self.newest_key_id = ""

    def load(self) -> None:
        """Read the keys. Raises KeyFileError."""
        keys = self._load()
        self._known = {key_id(key): key for key in keys}
        self.newest_key_id = key_id(keys[0])

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the known keys, the newest first."""
        return tuple(self._known)

    def derive(self, purpose: str, *parts: str) -> bytes:
        """Return 32 bytes that only the holder of the newest key can compute."""
        return _mac(self._known[self.newest_key_id], purpose, parts)

    def derives(self, mac: bytes, purpose: str, *parts: str) -> bool:
        """Return whether `derive` made `mac`, with any known key."""
        macs = [_mac(key, purpose, parts) for key in self._known.values()]
        return any([hmac.compare_digest(mac, known) for known in macs])

    def encrypt(self, secret: str, app_id: str, skey: str | None = None) -> EncryptedSecret:
        """Encrypt a secret. With an skey, only the same skey decrypts it."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        key = AESGCM(_derive(self._known[self.newest_key_id], skey))
        return EncryptedSecret(
            nonce + key.encrypt(nonce, secret.encode(), app_id.encode()), self.newest_key_id
        )

    def decrypt(self, secret: EncryptedSecret, app_id: str, skey: str | None = None) -> str:
        """Decrypt a secret.

        Raises SecretDecryptionFailed if the key is unknown, or if the secret was changed or
        belongs to another app.
        """
        if secret.key_id not in self._known:
            self.load()
        key = self._known.get(secret.key_id)
        if key is None:
            raise SecretDecryptionFailed(
                f"the secret of app {app_id} is encrypted with the key {secret.key_id}, "
                "which this instance does not have"
            )
        nonce, ciphertext = secret.ciphertext[:NONCE_BYTES], secret.ciphertext[NONCE_BYTES:]
        try:
            return AESGCM(_derive(key, skey)).decrypt(nonce, ciphertext, app_id.encode()).decode()
        except InvalidTag:
            raise SecretDecryptionFailed(
                f"the recorded secret of app {app_id} was not encrypted for it; set it again"
            ) from None


def _mac(key: bytes, purpose: str, parts: Sequence[str]) -> bytes:
    text = "".join(f"{len(part)}:{part}" for part in ("scan-login", purpose, *parts))
    return hmac.digest(key, text.encode(), "sha256")


def _derive(key: bytes, skey: str | None) -> bytes:
    if skey is None:
        return key
    return hmac.digest(key, b"scan-login session " + skey.encode(), "sha256")


class SecretDecryptionFailed(Unavailable):
    """The key of an app's secret is unknown, or the secret was changed."""
