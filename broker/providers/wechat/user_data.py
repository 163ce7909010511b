"""Data that WeChat signs and encrypts with the session_key of the last `wx.login`.

    signature      = hex(sha1(rawData + session_key))
    encryptedData  = base64(AES-128-CBC(JSON with a watermark)), PKCS#7, under session_key and iv

The formats come from `wx.getUserInfo`. Names and pictures in it have been blank since 2022.
Some clients still send them, and WeChat still encrypts other data in this way, such as group
ids.
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
"""The block size of AES, and the length of key and iv."""


class WeChatUserData:
    """Verifies and decrypts the user data of one mini program.

    appid: of the mini program. Data of another one is refused.
    """

    def __init__(self, appid: str) -> None:
        self._appid = appid

    def is_signed(self, raw_data: str, signature: str, session_key: SecretText) -> bool:
        # WeChat uses SHA-1. The secret session_key at the end protects the signature.
        expected = hashlib.sha1(f"{raw_data}{session_key.reveal()}".encode(), usedforsecurity=False)
        return hmac.compare_digest(expected.hexdigest().encode(), signature.encode())

    def decrypt(
        self, encrypted_data: str, iv: str, session_key: SecretText
    ) -> Mapping[str, object]:
        try:
            data = decode(_decrypt(encrypted_data, iv, session_key.reveal()))
            if data["watermark"]["appid"] == self._appid:
                return dict(data)
        except (ValueError, TypeError, KeyError, RecursionError):
            pass
        raise UserDataDecryptionFailed


def _decrypt(encrypted_data: str, iv: str, session_key: str) -> bytes:
    """Raises ValueError for invalid base64, incomplete blocks or wrong padding."""
    content, vector, key = (
        base64.b64decode(text, validate=True) for text in (encrypted_data, iv, session_key)
    )
    decryptor = Cipher(AES128(key), CBC(vector)).decryptor()
    padded = decryptor.update(content) + decryptor.finalize()
    unpadder = PKCS7(8 * BLOCK_BYTES).unpadder()
    return unpadder.update(padded) + unpadder.finalize()
