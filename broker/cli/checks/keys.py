"""Checks of the signing keys."""

from __future__ import annotations

import time

from broker.cli.checks.model import Installation, Skipped, Warned
from broker.cli.checks.state import CLOCK_MAX
from broker.tokens.keys import PUBLISHED_BEFORE_USE, KeyRings, SigningKeyFile
from broker.tokens.settings import TokenSettings

SECONDS_PER_DAY = 86_400

AGE_MAX_DAYS = 100
"""As in the alert ScanLoginKeyOld."""


def load(installation: Installation) -> KeyRings | None:
    """Raises KeyFileError for a file that is damaged or that other users can read."""
    return SigningKeyFile(installation.settings[TokenSettings].key_file).load()


async def check_file(installation: Installation) -> str:
    path = installation.settings[TokenSettings].key_file.absolute()
    if load(installation) is None:
        raise Warned(
            f"{path} does not exist",
            "nothing on a new installation: the broker creates it, or scan-login key create",
        )
    return f"only its owner reads {path}"


def _existing(installation: Installation) -> KeyRings:
    rings = load(installation)
    if rings is None:
        raise Skipped("there is no key file")
    return rings


async def check_age(installation: Installation) -> str:
    published = [ring.present["published_at"] for ring in _existing(installation).all.values()]
    days = (time.time() - min(published)) / SECONDS_PER_DAY
    if days > AGE_MAX_DAYS:
        raise Warned(f"the oldest signing key is {days:.0f} days old")
    return f"the oldest signing key is {days:.0f} days old"


async def check_next(installation: Installation) -> str:
    now = time.time()
    wait = max(ring.unpublished_for(now) for ring in _existing(installation).all.values())
    if wait > PUBLISHED_BEFORE_USE + CLOCK_MAX:
        raise Warned(
            f"the next key was published {wait - PUBLISHED_BEFORE_USE:.0f} s in the future"
        )
    if wait:
        return f"the keys can be rotated in {wait:.0f} s"
    return "the keys can be rotated"
