"""The signing keys and seal keys, over HTTP at the admin port. No response has a key."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence

from broker.infrastructure.api.authorization import OPERATOR
from broker.infrastructure.api.endpoint import ADMIN, Endpoint
from broker.infrastructure.api.schema import Count, RequestModel, ResponseModel
from broker.infrastructure.crypto.secret_file import KeyFileError
from broker.tokens.errors import KeysNotRotated
from broker.tokens.issuer import TokenIssuer
from broker.tokens.keys import PUBLISHED_BEFORE_USE, RotationTooEarly


class RotateRequest(RequestModel):
    """now: rotate although products may not know the next keys yet: a key leaked."""

    now: bool = False


class SigningKeyView(ResponseModel):
    """A key of the JWKS.

    status: `present` signs, `next` signs after the next rotation, `former` still verifies.
    age: seconds since its publication; null for a former key.
    """

    kid: str
    algorithm: str
    status: str
    age: Count | None


class SealKeyView(ResponseModel):
    """status: `present` encrypts new secrets, `former` still decrypts."""

    id: str
    status: str


class KeysResponse(ResponseModel):
    signing: list[SigningKeyView]
    seal: list[SealKeyView]


class KeysAdminAPI:
    """seal_key_ids: returns the ids of the seal keys, the newest first.

    clock: this host's Unix time in seconds.
    """

    def __init__(
        self,
        *,
        issuer: TokenIssuer,
        seal_key_ids: Callable[[], Sequence[str]],
        clock: Callable[[], float],
    ) -> None:
        self._issuer = issuer
        self._seal_key_ids = seal_key_ids
        self._clock = clock

    async def list(self) -> KeysResponse:
        now = self._clock()
        signing: list[SigningKeyView] = [
            {
                "kid": key.kid,
                "algorithm": key.algorithm,
                "status": key.status,
                "age": None if key.published_at is None else max(0, int(now - key.published_at)),
            }
            for key in self._issuer.key_statuses()
        ]
        seal: list[SealKeyView] = [
            {"id": key_id, "status": "former" if number else "present"}
            for number, key_id in enumerate(self._seal_key_ids())
        ]
        return {"signing": signing, "seal": seal}

    async def rotate(self, body: RotateRequest) -> KeysResponse:
        """Raises KeysNotRotated."""
        try:
            await asyncio.to_thread(self._issuer.rotate, force=body.now)
        except RotationTooEarly as early:
            raise KeysNotRotated(
                f"the next key is public for less than {PUBLISHED_BEFORE_USE} seconds, so "
                f"products may refuse its tokens: try again in {math.ceil(early.wait)} seconds, "
                'or send {"now": true} if a key has leaked'
            ) from None
        except KeyFileError:
            raise KeysNotRotated(
                "this instance cannot change the key file: run scan-login key rotate where the "
                "file can be written, and give the result to every instance"
            ) from None
        return await self.list()


ENDPOINTS = [
    Endpoint(
        "GET",
        "/keys",
        KeysAdminAPI.list,
        role=ADMIN,
        auth=OPERATOR,
        operation_id="listKeys",
        summary="List the signing keys and the seal keys",
        response=KeysResponse,
    ),
    Endpoint(
        "POST",
        "/keys/rotate",
        KeysAdminAPI.rotate,
        role=ADMIN,
        auth=OPERATOR,
        operation_id="rotateKeys",
        summary="Sign with the next keys, and publish new next keys",
        request=RotateRequest,
        response=KeysResponse,
        errors=(KeysNotRotated,),
    ),
]
