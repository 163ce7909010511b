"""Signatures of Wafer's tunnel protocol: SHA-1 over a text and the app's key. Pure functions.

They have no time and no nonce: a party that reads a signed call can send it again. The
protocol fixes both algorithms.
"""

from __future__ import annotations

import hashlib
import hmac


def signature(data: str, key: str) -> str:
    """Return the signature of the exact text `data`, in hexadecimal digits."""
    return hashlib.sha1((data + key).encode(), usedforsecurity=False).hexdigest()


def is_signed(data: str, sent: str, key: str) -> bool:
    """Return whether `sent` is the signature of `data`. False for text that is not UTF-8."""
    try:
        expected, actual = signature(data, key), sent.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return hmac.compare_digest(expected.encode(), actual)


def client_id(host: str) -> str:
    """Return the `tcId` of a business server.  host: its `ServerHost`."""
    return hashlib.md5(host.encode(), usedforsecurity=False).hexdigest()
