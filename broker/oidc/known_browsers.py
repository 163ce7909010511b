"""Browsers in which a person has signed in before, recognised by cookies of the broker's pages."""

from __future__ import annotations

import base64
import re
from contextlib import suppress
from http.cookies import CookieError, SimpleCookie

from broker.errors import Unavailable
from broker.identity.model import Identity, identity_key
from broker.infrastructure.base64url import BITS_256, is_256_bits
from broker.infrastructure.clock import Clock
from broker.infrastructure.crypto.sealing import SecretBox
from broker.oidc.cookies import cookie_names
from broker.oidc.model import hash_secret
from broker.oidc.ports import SignIns

DEVICE_LIFETIME = 180 * 86_400
"""Seconds for which a browser is recognised after a sign-in."""

DEVICE_PATTERN = re.compile(rf"([0-9a-f]{{32}})\.([0-9]{{1,12}})\.({BITS_256})")

PURPOSE = "device"
"""Of the MAC of a device cookie."""


class KnownBrowserCookies:
    """Reads the sign-in cookie and the device cookie, and makes device cookies.

    A device cookie is `<identity key>.<end>.<MAC>`. Nothing is stored. It spares a challenge of
    the login policy, and signs in nowhere.

    is_secure: whether browsers reach the broker by https.
    """

    def __init__(
        self, *, sign_ins: SignIns, secret_box: SecretBox, clock: Clock, is_secure: bool
    ) -> None:
        self._sign_ins = sign_ins
        self._secret_box = secret_box
        self._clock = clock
        self._names = cookie_names(is_secure=is_secure)

    def device_cookie(self, identity: Identity) -> str:
        """Return the cookie of a browser in which `identity` has signed in now."""
        key, end = identity_key(identity), str(int(self._clock() + DEVICE_LIFETIME))
        mac = base64.urlsafe_b64encode(self._secret_box.derive(PURPOSE, key, end))
        return f"{key}.{end}.{mac.rstrip(b'=').decode()}"

    async def identity_keys(self, cookies: str) -> tuple[str, ...]:
        """Return the keys of identities that use the browser with this header `Cookie`."""
        sent: SimpleCookie = SimpleCookie()
        with suppress(CookieError):
            sent.load(cookies)
        values = {name: morsel.value for name, morsel in sent.items()}
        found = [
            self._device_key(values.get(self._names.device, "")),
            await self._signed_in_key(values.get(self._names.sign_in, "")),
        ]
        return tuple(dict.fromkeys(filter(None, found)))

    def _device_key(self, cookie: str) -> str | None:
        parts = DEVICE_PATTERN.fullmatch(cookie)
        if parts is None or int(parts[2]) <= self._clock():
            return None
        mac = base64.urlsafe_b64decode(parts[3] + "=")
        return parts[1] if self._secret_box.derives(mac, PURPOSE, parts[1], parts[2]) else None

    async def _signed_in_key(self, cookie: str) -> str | None:
        if not is_256_bits(cookie):
            return None
        with suppress(Unavailable):  # the browser counts as unknown
            sign_in = await self._sign_ins.by_cookie(cookie[:1], hash_secret(cookie))
            return None if sign_in is None else identity_key(sign_in.identity)
        return None
