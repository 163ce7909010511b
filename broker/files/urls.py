"""Signed URLs of files."""

from __future__ import annotations

import base64
from typing import NamedTuple
from urllib.parse import urlencode

from broker.files.errors import UnknownFile
from broker.infrastructure.clock import Clock
from broker.infrastructure.crypto.sealing import SecretBox

PURPOSE = "file URL"

URL_TTL = 300
"""Seconds for which a URL is valid."""


class SignedURL(NamedTuple):
    url: str
    expires_in: int


class FileURLs:
    """Signs and checks URLs. The key is derived from the seal key.

    base: the URL prefix of files.
    """

    def __init__(self, *, base: str, secret_box: SecretBox, clock: Clock) -> None:
        self._base = base
        self._secret_box = secret_box
        self._clock = clock

    def sign(self, file_id: str) -> SignedURL:
        expires_at = str(int(self._clock()) + URL_TTL)
        mac = self._secret_box.derive(PURPOSE, file_id, expires_at)
        query = urlencode({"t": _encode(mac), "e": expires_at})
        return SignedURL(f"{self._base}/{file_id}?{query}", URL_TTL)

    def check(self, file_id: str, mac: str, expires_at: str) -> None:
        """Raises UnknownFile if this broker has not signed the URL, or if it has expired.

        mac: 43 URL-safe characters, or empty.  expires_at: digits.
        """
        digest = _decode(mac)
        is_ours = self._secret_box.derives(digest, PURPOSE, file_id, expires_at)
        if not is_ours or _encode(digest) != mac or int(expires_at) <= self._clock():
            raise UnknownFile


def _encode(mac: bytes) -> str:
    return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "==")
