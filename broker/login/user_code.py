"""User codes: short codes that a person types in place of a scan (RFC 8628, section 6.1)."""

from __future__ import annotations

import hashlib
from unicodedata import category, normalize

ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"
"""Letters without vowels, so that no code is a word (RFC 8628, section 6.1)."""

LENGTH, GROUP = 8, 4
"""Letters of a code, and of each group of it: 20 ** 8, or 34 bits."""

ATTEMPTS = 3
"""Codes that a login tries to get. Among 200 000 logins, one code in 100 000 is taken."""


IGNORED = "CPZ"
"""First letters of the Unicode categories that do not count: controls, punctuation, spaces."""

ASCII_IGNORED = bytes(one for one in range(128) if category(chr(one))[0] in IGNORED)


def derive_user_code(secret_hash: bytes, attempt: int) -> str:
    """Return a code for the login with this hash of its secret, without hyphen.

    It is derived, so that a login has the same code at each request and on each instance.
    """
    digest = hashlib.sha256(b"user code %d:" % attempt + secret_hash).digest()
    number = int.from_bytes(digest)
    letters = []
    for _ in range(LENGTH):
        number, index = divmod(number, len(ALPHABET))
        letters.append(ALPHABET[index])
    return "".join(letters)


def format_user_code(code: str) -> str:
    """Return the code as people see it, such as `WDJB-MJHT`."""
    return f"{code[:GROUP]}-{code[GROUP:]}"


def parse_user_code(text: str) -> str | None:
    """Return the code that a person typed or pasted; None for other text.

    Case, spaces, punctuation and invisible characters do not count, and full-width letters are
    the ASCII ones.
    """
    letters = _ascii_letters(text) if text.isascii() else _letters(text)
    return letters if len(letters) == LENGTH and set(letters) <= set(ALPHABET) else None


def _letters(text: str) -> str:
    upper = normalize("NFKC", text).upper()
    return "".join(one for one in upper if category(one)[0] not in IGNORED)


def _ascii_letters(text: str) -> str:
    """Return the same as `_letters`. Each scan of a code parses its scene, which is ASCII."""
    return text.upper().encode().translate(None, ASCII_IGNORED).decode()
