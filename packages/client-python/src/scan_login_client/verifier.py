"""Verifies tokens with the broker's public keys, which are fetched when they are needed.

The classes:

    Verifier        blocks, for Django, Flask and other threads
    AsyncVerifier   for asyncio, needs `scan-login-client[async]`
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence

from scan_login_client.errors import BrokerUnavailable, UnknownKey
from scan_login_client.keys import KeyCache, parse_keys
from scan_login_client.tokens import Claims, Rules, check_token
from scan_login_client.transport import check_url, expect_ok, fetch, require_aiohttp, send

FETCH_TIMEOUT = 5.0

LEEWAY_MAX = 120
"""Seconds. Spent tokens are remembered for longer after their expiry."""


class _Checker:
    """The arguments of a verifier, and the rules, keys and clocks made from them, without I/O."""

    def __init__(
        self,
        issuer: str,
        audience: str,
        algorithms: Sequence[str] = ("ES256",),
        leeway: float = 30,
        *,
        keys_url: str | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0 <= leeway <= LEEWAY_MAX:
            raise ValueError(f"leeway must be 0 to {LEEWAY_MAX} seconds")
        issuer = check_url(issuer)
        self._rules = Rules(issuer, audience, tuple(algorithms), leeway)
        self._keys_url = check_url(keys_url or f"{issuer}/.well-known/jwks.json")
        self._clock = clock
        self._monotonic = monotonic
        self._cache = KeyCache()
        self._prepare_fetches()

    def _prepare_fetches(self) -> None:
        """Create the lock of fetches. Raises ImportError if they need a package that is missing."""
        raise NotImplementedError

    @property
    def _has_keys(self) -> bool:
        return bool(self._cache.keys(self._monotonic()))

    def _is_due(self) -> bool:
        return self._cache.is_due(self._monotonic())

    def _allow_refetch(self) -> bool:
        return self._cache.allow_refetch(self._monotonic())

    def _store(self, body: bytes) -> None:
        """Store a fetched key set. Raises BrokerUnavailable if it is malformed."""
        try:
            self._cache.store(parse_keys(body), self._monotonic())
        except ValueError as error:
            raise BrokerUnavailable(f"the broker's keys are unreadable: {error}") from error

    def _fail(self) -> None:
        self._cache.fail(self._monotonic())

    def _check(self, token: object) -> Claims:
        """Return the claims. Raises InvalidToken, and UnknownKey if a fetch may help."""
        keys = self._cache.keys(self._monotonic())
        return check_token(token, keys, self._rules, now=self._clock())

    def _check_again(self, token: object) -> Claims:
        """Return the claims. Raises InvalidToken, or BrokerUnavailable without current keys."""
        try:
            return self._check(token)
        except UnknownKey:
            if self._cache.is_failing:
                raise BrokerUnavailable("the broker's keys are not available") from None
            raise


class Verifier(_Checker):
    """Verifies access tokens. Threads may share it.

    issuer: the public URL of the broker. audience: the id of your app at the broker.
    algorithms: the accepted ones. leeway: seconds that the clocks may differ, at most 120.
    keys_url: of the key set, if this server reaches the broker at another URL.
    clock: Unix time in seconds. monotonic: seconds, for the age of the keys.

    Keys are fetched every 300 seconds, and at most once in 30 seconds for an unknown `kid`.
    While the broker does not answer, keys are used for up to 24 hours.
    """

    def _prepare_fetches(self) -> None:
        self._fetching = threading.Lock()

    def verify(self, token: object) -> Claims:
        """Return the claims of a valid token.

        Raises InvalidToken, or BrokerUnavailable if the keys cannot be fetched; the token may be
        valid then. The call may fetch keys, which takes at most about 5 seconds.
        """
        self._update()
        try:
            return self._check(token)
        except UnknownKey:
            with self._fetching:  # another thread may be fetching the key
                if self._allow_refetch():
                    self._fetch()
        return self._check_again(token)

    def _update(self) -> None:
        """Fetch the keys if they are old. Other threads continue with the old ones."""
        if not self._is_due():
            return
        if self._fetching.acquire(blocking=not self._has_keys):
            try:
                if self._is_due():
                    self._fetch()
            finally:
                self._fetching.release()

    def _fetch(self) -> None:
        try:
            answer = send("GET", self._keys_url, timeout=FETCH_TIMEOUT)
            self._store(expect_ok(answer.status, answer.body))
        except BrokerUnavailable:
            self._fail()


class AsyncVerifier(_Checker):
    """Verifies access tokens in one event loop. The arguments are those of `Verifier`.

    Raises ImportError without aiohttp: install `scan-login-client[async]`.
    """

    def _prepare_fetches(self) -> None:
        require_aiohttp()
        self._fetching = asyncio.Lock()

    async def verify(self, token: object) -> Claims:
        """Return the claims of a valid token. Raises as `Verifier.verify`."""
        await self._update()
        try:
            return self._check(token)
        except UnknownKey:
            async with self._fetching:  # another task may be fetching the key
                if self._allow_refetch():
                    await self._fetch()
        return self._check_again(token)

    async def _update(self) -> None:
        """Fetch the keys if they are old. Other tasks continue with the old ones."""
        if not self._is_due() or (self._fetching.locked() and self._has_keys):
            return
        async with self._fetching:
            if self._is_due():
                await self._fetch()

    async def _fetch(self) -> None:
        try:
            self._store(await fetch(self._keys_url, timeout=FETCH_TIMEOUT))
        except BrokerUnavailable:
            self._fail()
