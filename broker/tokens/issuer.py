"""Issues and verifies access tokens (RFC 9068) and ID tokens, and publishes the keys (RFC 7517).

Each algorithm has a ring of keys. The present key signs. The next key is already published, so
that sites know it before it signs. Former keys are published until the last token that they
signed has expired.

    next ──rotate──▶ present ──rotate──▶ former ──last token expires──▶ removed
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jwt
import structlog

from broker.infrastructure.crypto.secret_file import KeyFileError
from broker.tokens.errors import InvalidToken
from broker.tokens.jws import Signer
from broker.tokens.keys import (
    Jwk,
    KeyRings,
    KeyStatus,
    SigningKeyFile,
    open_key_rings,
    rotate_file,
)

log = structlog.get_logger()

KEY_SET_PATH = "/.well-known/jwks.json"

RELOAD_INTERVAL = 1.0
"""Seconds between two checks whether another process has rotated the key file."""


class TokenClaims(NamedTuple):
    """The claims that differ between access tokens; RFC 9068, section 2.2.

    id: `jti`. client_id: also the audience.
    issued_at, authenticated_at: Unix time in seconds, `iat` and `auth_time`.
    auth_methods: `amr`. provider: `idp`.
    scope: granted scopes; with `openid`, the issuer is in the audience, for userinfo.
    sid: the sign-in session; None if there is none.
    incarnation: of the app, see `App`. A later app with the same id accepts no such token.
    name: of the user, if the scope `profile` was granted and the directory knows it.
    """

    id: str
    subject: str | None
    client_id: str
    issued_at: int
    authenticated_at: int
    auth_methods: tuple[str, ...]
    provider: str
    scope: tuple[str, ...] = ()
    sid: str | None = None
    incarnation: str = ""
    name: str | None = None


class Token(NamedTuple):
    """A signed token and its remaining lifetime in seconds."""

    access_token: str
    expires_in: int


class VerifiedAccessToken(NamedTuple):
    """An access token of this broker that is valid now; its fields as in `TokenClaims`."""

    id: str
    subject: str
    client_id: str
    audience: tuple[str, ...]
    scope: tuple[str, ...]
    sid: str | None
    issued_at: int
    expires_at: int
    name: str | None = None
    incarnation: str = ""


LOGOUT_TOKEN_LIFETIME = 120
"""Seconds. OpenID Connect Back-Channel Logout, section 2.4, recommends two minutes at most."""

TOKEN_MAX = 16_384
"""Characters of a token that is verified. Longer ones are refused unread."""


class TokenIssuer:
    """Signs and verifies tokens, and loads a key file that another process has rotated.

    algorithm: of access tokens.
    id_token_algorithms: of ID tokens and logout tokens; empty without OpenID Connect.
    issuer: the tokens' `iss`, the broker's public URL.
    lifetime: of an access token, in seconds.
    hint_lifetime: seconds for which a former key verifies `id_token_hint` after it has left the
        JWKS.
    host_clock: this host's Unix time in seconds, by which sites check tokens.
    """

    def __init__(
        self,
        *,
        file: SigningKeyFile,
        algorithm: str,
        issuer: str,
        lifetime: int,
        id_token_algorithms: Sequence[str] = (),
        hint_lifetime: float = 0,
        host_clock: Callable[[], float] = time.time,
    ) -> None:
        now = host_clock()
        self._host_clock = host_clock
        self._file = file
        self._algorithm = algorithm
        self._algorithms = (algorithm, *id_token_algorithms)
        self.issuer = issuer
        self.lifetime = lifetime
        self._hint_lifetime = hint_lifetime
        self._use(open_key_rings(file, self._algorithms, now))
        self._loaded_version = self._file_version()
        self._checked_at = now

    def issue_time(self, now: float) -> float:
        """Return the `iat` of a token that is issued at `now`, the time of the state.

        It is never ahead of this host's clock, because sites refuse a token from the future.
        It is at most half a lifetime behind, so that the token can still be used.
        """
        host_now = self._host_clock()
        return max(min(now, host_now), host_now - self.lifetime / 2)

    def issue(self, claims: TokenClaims) -> Token:
        """Return a signed access token.

        Everything but `expires_in` depends only on `claims`, the settings and the key.
        """
        expires_at = claims.issued_at + self.lifetime
        is_openid = "openid" in claims.scope
        payload = {
            "iss": self.issuer,
            "sub": claims.subject,
            "aud": [claims.client_id, self.issuer] if is_openid else claims.client_id,
            "client_id": claims.client_id,
            "iat": claims.issued_at,
            "exp": expires_at,
            "jti": claims.id,
            # The clock that set it may be ahead of the issuing host.
            "auth_time": min(claims.authenticated_at, claims.issued_at),
            "amr": claims.auth_methods,
            "idp": claims.provider,
        }
        if claims.scope:
            payload["scope"] = " ".join(claims.scope)
        if claims.sid is not None:
            payload["sid"] = claims.sid
        if claims.incarnation:
            payload["app_incarnation"] = claims.incarnation
        if claims.name is not None:
            payload["name"] = claims.name
        self._reload_if_rotated()
        ring = self._rings.access_ring(self._algorithm, self._host_clock())
        token = self._signers[ring.algorithm].sign(payload, "at+jwt")
        return Token(token, expires_at - int(self._host_clock()))

    def issue_id_token(
        self, claims: Mapping[str, object], *, algorithm: str, issued_at: int, expires_at: int
    ) -> str:
        """Return a signed ID token with `claims`, `iss`, `iat`, `exp` and a random `jti`."""
        times = {"iss": self.issuer, "iat": issued_at, "exp": expires_at}
        return self._sign_as(algorithm, {**claims, **times}, "JWT")

    def issue_logout_token(
        self, claims: Mapping[str, object], *, algorithm: str, issued_at: int
    ) -> str:
        """Return a signed logout token (OpenID Connect Back-Channel Logout, section 2.4)."""
        expires_at = issued_at + LOGOUT_TOKEN_LIFETIME
        times = {"iss": self.issuer, "iat": issued_at, "exp": expires_at}
        return self._sign_as(algorithm, {**claims, **times}, "logout+jwt")

    def verify_access_token(self, text: str) -> VerifiedAccessToken:
        """Return an access token of this broker. Raises InvalidToken."""
        self._reload_if_rotated()
        now = self._host_clock()
        try:
            claims = self._verify(text, "at+jwt", now)
            token = VerifiedAccessToken(
                id=claims["jti"],
                subject=claims["sub"],
                client_id=claims["client_id"],
                audience=_strings(claims["aud"]),
                scope=tuple(claims.get("scope", "").split()),
                sid=claims.get("sid"),
                issued_at=claims["iat"],
                expires_at=claims["exp"],
                name=_optional_string(claims.get("name")),
                incarnation=claims.get("app_incarnation", ""),
            )
        except (jwt.PyJWTError, KeyError):
            raise InvalidToken from None
        if token.expires_at <= now:
            raise InvalidToken
        return token

    def verify_id_token_hint(self, text: str) -> Mapping[str, Any] | None:
        """Return the claims of an ID token of this broker, also of an expired one, or None."""
        self._reload_if_rotated()
        try:
            return self._verify(text, "JWT", self._host_clock() - self._hint_lifetime)
        except (jwt.PyJWTError, KeyError):
            return None

    def key_set(self) -> dict[str, list[Jwk]]:
        """Return the JWKS: the present keys, the next keys and former keys in use."""
        self._reload_if_rotated()
        return {"keys": self._rings.public(self._host_clock())}

    def key_ids(self) -> tuple[str, ...]:
        """Return the ids of the keys in the JWKS; the first one signs access tokens."""
        return tuple(key["kid"] for key in self.key_set()["keys"])

    def key_statuses(self) -> list[KeyStatus]:
        """Return the keys of the JWKS, by algorithm."""
        self._reload_if_rotated()
        now = self._host_clock()
        return [key for ring in self._rings.all.values() for key in ring.described(now)]

    def rotate(self, *, force: bool) -> None:
        """Sign with the next keys. Raises RotationTooEarly or KeyFileError.

        It takes about 0.2 s, because new keys are generated. It may run in a thread.
        force: rotate although products may not know the next keys yet.
        """
        now = self._host_clock()
        rotate_file(
            self._file,
            lambda rings: rings.rotated(
                now=now,
                token_lifetime=self.lifetime,
                hint_lifetime=self._hint_lifetime,
                algorithm=self._algorithm,
            ),
            now=now,
            force=force,
        )
        self._checked_at = 0.0

    def signing_key_ids(self) -> tuple[str, ...]:
        """Return the ids of the keys that sign, one for each algorithm."""
        self._reload_if_rotated()
        return tuple(ring.present["kid"] for ring in self._rings.all.values())

    def signing_key_age(self) -> float:
        """Return the seconds since the last rotation, of the oldest ring."""
        self._reload_if_rotated()
        rotated_at = min(float(ring.next["published_at"]) for ring in self._rings.all.values())
        return max(0.0, self._host_clock() - rotated_at)

    def _sign_as(self, algorithm: str, payload: Mapping[str, object], kind: str) -> str:
        self._reload_if_rotated()
        named = {**payload, "jti": secrets.token_urlsafe(16)}
        return self._signers[algorithm].sign(named, kind)

    def _verify(self, text: str, kind: str, valid_at: float) -> dict[str, Any]:
        """Return the claims if a key that was valid then has signed them.

        The key decides about the algorithm, not the token. Raises PyJWTError or KeyError.
        """
        if len(text) > TOKEN_MAX or not text.isascii():
            raise jwt.DecodeError
        header = jwt.get_unverified_header(text)
        algorithm = {key["kid"]: key["alg"] for key in self._rings.public(valid_at)}[header["kid"]]
        if header.get("typ") != kind:
            raise jwt.DecodeError
        claims: dict[str, Any] = jwt.decode(
            text,
            self._public_keys[header["kid"]],
            algorithms=[algorithm],
            issuer=self.issuer,
            options={"verify_aud": False, "verify_exp": False, "verify_iat": False},
        )
        return claims

    def _use(self, rings: KeyRings) -> None:
        self._rings = rings
        self._signers = {name: Signer(ring.present) for name, ring in rings.all.items()}
        self._public_keys = {key["kid"]: jwt.PyJWK(key) for key in rings.public(0)}

    def _file_version(self) -> tuple[int, int] | None:
        """Return a value that changes with the file, or None if the file cannot be read."""
        try:
            status = self._file.path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino

    def _reload_if_rotated(self) -> None:
        """Load a rotated key file. A missing or damaged file is ignored."""
        now = self._host_clock()
        if 0 <= now - self._checked_at < RELOAD_INTERVAL:
            return
        self._checked_at = now
        version = self._file_version()  # before reading: a later rotation is found next time
        if version in (None, self._loaded_version):
            return
        self._loaded_version = version
        try:
            self._use(open_key_rings(self._file, self._algorithms, now))
        except KeyFileError as error:
            log.error("signing key reload failed", reason=str(error))


def at_hash(access_token: str, algorithm: str) -> str:
    """Return the claim `at_hash` (OpenID Connect Core, section 3.1.3.6).

    All algorithms here but EdDSA hash with SHA-256; EdDSA with Ed25519 hashes with SHA-512.
    """
    name = "sha512" if algorithm == "EdDSA" else "sha256"
    digest = hashlib.new(name, access_token.encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()


def _optional_string(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _strings(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else (str(value),)
