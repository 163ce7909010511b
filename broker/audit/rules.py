"""The hash chain: each hash covers its entry and the hash of the entry before."""

from __future__ import annotations

import hashlib
import json

from broker.audit.model import ExportedEntry

FIRST_PREVIOUS = ""
"""The hash before the first entry of a chain."""


def canonical_json(entry: ExportedEntry) -> bytes:
    """Return the entry without its hash: keys in order, no spaces, in UTF-8."""
    fields = {name: value for name, value in entry.items() if name != "hash"}
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def next_hash(previous: str, entry: ExportedEntry) -> str:
    """Return SHA-256 of the previous hash and the canonical JSON, in hexadecimal."""
    return hashlib.sha256(previous.encode() + canonical_json(entry)).hexdigest()
