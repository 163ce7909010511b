"""Encrypts and signs user data as WeChat does."""

from __future__ import annotations

import base64
import json

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import CBC

KEY, IV, OTHER = (bytes(range(start, start + 16)) for start in (0, 16, 32))


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def padded(content: bytes) -> bytes:
    missing = 16 - len(content) % 16
    return content + bytes([missing]) * missing


def encrypted(content: bytes, key: bytes = KEY, iv: bytes = IV) -> str:
    encryptor = Cipher(AES128(key), CBC(iv)).encryptor()
    return b64(encryptor.update(content) + encryptor.finalize())


def packed(value: object) -> bytes:
    return padded(json.dumps(value).encode())
