"""What a mini program signs and encrypts with the session_key of its last `wx.login`.

    signature      = hex(sha1(rawData + session_key))
    encryptedData  = base64(AES-128-CBC(JSON with a watermark)), PKCS#7, under session_key and iv

WeChat's own formats, from when `wx.getUserInfo` still named people: names and pictures
have been blank since 2022, so this is for clients that send them all the same, and for
what is still encrypted so, such as group ids.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7

from broker.identity.errors import UserDataDecryptionFailed
from broker.identity.ports import SecretText
from broker.infrastructure.codec import decode

BLOCK_BYTES = 16
"""Of AES; key and iv have as many."""


class WeChatUserData:
    """appid: of the mini program whose data this is; another's is refused."""

    def __init__(self, appid: str) -> None:
        self._appid = appid

    def is_signed(self, raw_data: str, signature: str, session_key: SecretText) -> bool:
        # WeChat's choice of hash; the session_key behind the text is what keeps others out.
        expected = hashlib.sha1(f"{raw_data}{session_key.reveal()}".encode(), usedforsecurity=False)
        return hmac.compare_digest(expected.hexdigest().encode(), signature.encode())

    def decrypt(
        self, encrypted_data: str, iv: str, session_key: SecretText
    ) -> Mapping[str, object]:
        try:
            data = decode(_plain(encrypted_data, iv, session_key.reveal()))
            if data["watermark"]["appid"] == self._appid:
                return dict(data)
        except (ValueError, TypeError, KeyError, RecursionError):
            pass
        raise UserDataDecryptionFailed


def _plain(encrypted_data: str, iv: str, session_key: str) -> bytes:
    """Raises ValueError for what is no base64, no whole blocks, or wrongly padded."""
    content, start, key = (
        base64.b64decode(text, validate=True) for text in (encrypted_data, iv, session_key)
    )
    decryptor = Cipher(AES128(key), CBC(start)).decryptor()
    padded = decryptor.update(content) + decryptor.finalize()
    unpadder = PKCS7(8 * BLOCK_BYTES).unpadder()
    return unpadder.update(padded) + unpadder.finalize()
