"""The text of refresh tokens: `<family>.<n>.<MAC>`.

The state stores the family and the current `n`, and no token. A copy of the state
is not enough to make a token, and the broker can send a lost answer again.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import NamedTuple

from broker.infrastructure.base64url import BITS_256
from broker.infrastructure.crypto.sealing import SecretBox

PATTERN = re.compile(rf"([A-Za-z0-9_-]{{22}})\.([1-9][0-9]{{0,9}})\.({BITS_256})")

PURPOSE = "refresh"


class RefreshToken(NamedTuple):
    """family: the family's id. n: the token's number in it, from 1."""

    family: str
    n: int


class RefreshTokens:
    """Makes and verifies the text of refresh tokens with the seal keys."""

    def __init__(self, secret_box: SecretBox) -> None:
        self._secret_box = secret_box

    def format(self, token: RefreshToken) -> str:
        """Return the text. It is the same every time, unless the newest seal key changes."""
        family, n = token.family, str(token.n)
        mac = self._secret_box.derive(PURPOSE, family, n)
        return f"{family}.{n}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"

    def parse(self, text: str) -> RefreshToken | None:
        """Return the token, or None if this broker did not make it."""
        found = PATTERN.fullmatch(text)
        if found is None:
            return None
        family, n, encoded = found.groups()
        try:
            mac = base64.urlsafe_b64decode(encoded + "=")
        except binascii.Error:
            return None
        is_valid = self._secret_box.derives(mac, PURPOSE, family, n)
        return RefreshToken(family, int(n)) if is_valid else None
