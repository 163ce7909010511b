"""Apps: the sites and mini programs that log users in."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from broker.infrastructure.crypto.sealing import EncryptedSecret

DEFAULT_APP = "default"
"""The app that the settings name."""

APP_KEY_MAX = 64
"""Characters of an app key: as many as of an app id."""


def app_key(app_id: str, incarnation: str) -> str:
    """Return the key under which an app's codes are stored.  No two apps have the same key.

    It is the id alone for the app of the settings and for apps that were recorded before
    incarnations were.  No id contains a tilde.
    """
    if not incarnation:
        return app_id
    return f"{app_id[: APP_KEY_MAX - 1 - len(incarnation)]}~{incarnation}"


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """One site that logs people in.

    id: what browsers and phones call it; the token's audience.
    name: what the person reads on the phone before confirming.
    origins: exact Origins whose pages may begin a login (`https://shop.example`).
    register_url: where an unknown person is sent; None where nobody can register.
    redirect_urls: exact URLs that a browser may be sent to with a login's outcome.
    provider: who draws its codes and proves its phones.
    provider_app_id: what the provider calls it (WeChat: `appid`); empty where it has
        no name there.
    code_source: `live`, a code drawn for each login, or `pool`, drawn ahead of time.
    login_lifetime: seconds a code may be scanned and confirmed; None: as the broker's.
    incarnation: random, and never the same again: an app that is removed and added again under
        its id is another app. Empty for the settings' app, and for apps that were recorded
        before incarnations were.
    """

    id: str
    name: str
    origins: frozenset[str]
    register_url: str | None = None
    redirect_urls: frozenset[str] = frozenset()
    provider: str = "pretend"
    provider_app_id: str = ""
    code_source: str = "live"
    login_lifetime: int | None = None
    incarnation: str = ""

    @property
    def key(self) -> str:
        """The key of its codes."""
        return app_key(self.id, self.incarnation)


@dataclass(frozen=True, slots=True, kw_only=True)
class AppRecord:
    """An app as it is written down.  created_at, changed_at: Unix time in seconds."""

    app: App
    encrypted_secret: EncryptedSecret | None = field(repr=False)
    api_secret_hash: bytes | None = field(repr=False)
    created_at: float
    changed_at: float

    def as_dict(self) -> dict[str, object]:
        """What an operator may see of it: that it has secrets, and never which."""
        app = self.app
        return {
            "id": app.id,
            "name": app.name,
            "provider": app.provider,
            "provider_app_id": app.provider_app_id,
            "has_provider_secret": self.encrypted_secret is not None,
            "has_api_secret": self.api_secret_hash is not None,
            "origins": sorted(app.origins),
            "redirect_urls": sorted(app.redirect_urls),
            "register_url": app.register_url,
            "code_source": app.code_source,
            "login_lifetime": app.login_lifetime,
            "created_at": self.created_at,
            "changed_at": self.changed_at,
        }


def hash_api_secret(secret: str) -> bytes:
    """Of 256 random bits, so that no slow hash is needed."""
    return hashlib.sha256(secret.encode()).digest()
