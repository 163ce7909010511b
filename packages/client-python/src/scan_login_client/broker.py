"""Calls the broker as an app: sessions of phones, tunnels and files. The calls block."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from scan_login_client.errors import BrokerRefused, BrokerUnavailable
from scan_login_client.transport import Answer, check_url, send

DEFAULT_APP = "default"

T = TypeVar("T")

Fields = Mapping[str, object]
Call = Callable[[str, str, Fields], dict[str, Any]]
"""Sends (method, path, fields) and returns the answer. Raises as `Broker`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionUser:
    """The person of a session.

    subject: the `sub` of the person's tokens. expires_in: seconds, if the session is not used.
    """

    app: str
    openid: str
    unionid: str | None = None
    subject: str | None = None
    expires_in: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedSession(SessionUser):
    """A new session. Give `id` and `skey` to the phone."""

    id: str
    skey: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTunnel:
    """A tunnel. Give `url` to the client: it works once, for `expires_in` seconds."""

    tunnel_id: str
    url: str = field(repr=False)
    expires_in: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tunnel:
    """A tunnel.  state: `open` or `away`. opened_at, seen_at: Unix times in seconds."""

    tunnel_id: str
    state: str
    subject: str | None = None
    meta: Mapping[str, object]
    groups: Sequence[str]
    opened_at: float
    seen_at: float
    offset: int
    epoch: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PushResult:
    """For how many tunnels a message is stored.

    delivered: open ones. kept: those without a socket. unknown: ids of tunnels that have closed.
    """

    delivered: int
    kept: int
    unknown: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A file.  url: for everyone who has it, for `expires_in` seconds.

    owner: `openid`, and `subject` if it is known. size: in bytes. created_at: Unix time in seconds.
    """

    file_id: str
    size: int
    media_type: str
    sha256: str
    url: str = field(repr=False)
    expires_in: int
    owner: Mapping[str, str]
    created_at: float
    purpose: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePage:
    """At most 100 files.  next: the `after` of the next page; None for the last one."""

    files: Sequence[StoredFile]
    next: str | None = None


class Broker:
    """The calls of an app to its broker.

    url: of the broker. app: its id. secret: `scan-login app rotate-secret` prints it; for the app
        `default`, which has none, the admin token of the broker.
    timeout: seconds for connecting, and for each read.

    Each call raises BrokerRefused, or BrokerUnavailable. In an event loop, use
    `asyncio.to_thread`.
    """

    def __init__(self, url: str, app: str, secret: str, *, timeout: float = 10.0) -> None:
        self._url = check_url(url)
        self._headers = {
            "Authorization": _authorization(app, secret),
            "Content-Type": "application/json",
        }
        # The admin token is valid for all apps, so each request names one.
        self._app = {"app": app} if app == DEFAULT_APP else {}
        self._timeout = timeout
        self.sessions = Sessions(self._call)
        self.tunnels = Tunnels(self._call)
        self.files = Files(self._call)

    def _call(self, method: str, path: str, given: Fields) -> dict[str, Any]:
        sent = {name: value for name, value in given.items() if value is not None} | self._app
        is_read = method == "GET"
        answer = send(
            method,
            f"{self._url}{path}" + (f"?{urlencode(sent)}" if is_read and sent else ""),
            headers=self._headers,
            body=None if is_read else json.dumps(sent).encode(),
            timeout=self._timeout,
        )
        return _read(answer)


class Sessions:
    """Sessions of phones. `id` and `skey` are what the phone has sent."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def open(self, js_code: str) -> OpenedSession:
        """Open a session for a phone, with the `js_code` of its `wx.login`."""
        return _parsed(OpenedSession, self._call("POST", "/sessions", {"js_code": js_code}))

    def check(self, id: str, skey: str) -> SessionUser:
        """Return the person of a session. It counts as a use."""
        return _parsed(SessionUser, self._call("POST", "/sessions/check", {"id": id, "skey": skey}))

    def verify(self, id: str, skey: str, *, raw_data: str, signature: str) -> bool:
        """Return whether WeChat's signature of `raw_data` is correct."""
        given = {"id": id, "skey": skey, "raw_data": raw_data, "signature": signature}
        return bool(self._call("POST", "/sessions/verify", given).get("valid"))

    def decrypt(self, id: str, skey: str, *, encrypted_data: str, iv: str) -> dict[str, Any]:
        """Return WeChat's `encryptedData`, decrypted."""
        given = {"id": id, "skey": skey, "encrypted_data": encrypted_data, "iv": iv}
        return dict(self._call("POST", "/sessions/decrypt", given).get("data", {}))

    def end(self, id: str, skey: str) -> int:
        """End a session. Returns how many have ended."""
        return int(self._call("POST", "/sessions/end", {"id": id, "skey": skey}).get("ended", 0))


class Tunnels:
    """Tunnels of the app."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def open(
        self,
        *,
        subject: str | None = None,
        session: tuple[str, str] | None = None,
        meta: Mapping[str, object] | None = None,
        expires_in: int | None = None,
    ) -> NewTunnel:
        """Create a tunnel.

        session: `id` and `skey` of a phone. expires_in: seconds until the client must connect.
        """
        phone = dict(zip(("id", "skey"), session, strict=True)) if session else None
        given = {"subject": subject, "session": phone, "meta": meta, "expires_in": expires_in}
        return _parsed(NewTunnel, self._call("POST", "/tunnels", given))

    def push(
        self,
        data: object,
        *,
        tunnel_ids: Sequence[str] = (),
        subjects: Sequence[str] = (),
        groups: Sequence[str] = (),
        id: str | None = None,
        keep: int | None = None,
    ) -> PushResult:
        """Send a message to tunnels.

        data: any JSON value. id: the same one within 120 seconds is stored once.
        keep: seconds for which the message is kept for replay.
        """
        to = {"tunnel_ids": [*tunnel_ids], "subjects": [*subjects], "groups": [*groups]}
        more = {name: value for name, value in (("id", id), ("keep", keep)) if value is not None}
        given = {"messages": [{"to": to, "data": data, **more}]}
        [result] = self._call("POST", "/tunnels/push", given)["results"]
        return _parsed(PushResult, result)

    def get(self, tunnel_id: str) -> Tunnel:
        return _parsed(Tunnel, self._call("GET", f"/tunnels/{quote(tunnel_id, safe='')}", {}))

    def close(self, tunnel_id: str, *, code: int | None = None, reason: str | None = None) -> None:
        """End a tunnel.  code: 4000 to 4999, for the client."""
        given = {"code": code, "reason": reason}
        self._call("DELETE", f"/tunnels/{quote(tunnel_id, safe='')}", given)


class Files:
    """Files of the app and of its people."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def list(self, *, openid: str | None = None, after: str | None = None) -> FilePage:
        """Return a page of files, by id.  openid: only those of this person."""
        answer = self._call("GET", "/files", {"openid": openid, "after": after})
        files = [_parsed(StoredFile, one) for one in answer.get("files", [])]
        return FilePage(files=files, next=answer.get("next"))

    def get(self, file_id: str) -> StoredFile:
        """Return a file, with a fresh URL."""
        return _parsed(StoredFile, self._call("GET", f"/files/{quote(file_id, safe='')}/meta", {}))

    def delete(self, file_id: str) -> None:
        self._call("DELETE", f"/files/{quote(file_id, safe='')}", {})


def _authorization(app: str, secret: str) -> str:
    if app == DEFAULT_APP:
        return f"Bearer {secret}"
    return f"Basic {base64.b64encode(f'{app}:{secret}'.encode()).decode()}"


def _read(answer: Answer) -> dict[str, Any]:
    """Return the fields of an answer. Raises BrokerRefused or BrokerUnavailable."""
    if answer.status == 204:
        return {}
    try:
        found = json.loads(answer.body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or (answer.status >= 300 and "error" not in found):
        raise BrokerUnavailable(f"status {answer.status} without an answer of a broker")
    if answer.status < 300:
        return found
    wait = answer.headers.get("Retry-After", "")
    retry_after = int(wait) if wait.isdecimal() else None
    error, description = str(found["error"]), str(found.get("error_description", ""))
    if answer.status >= 500:
        raise BrokerUnavailable(f"{error}: {description}", retry_after=retry_after)
    raise BrokerRefused(error, description, broker_status=answer.status, retry_after=retry_after)


def _parsed(kind: Callable[..., T], answer: Mapping[str, Any]) -> T:
    """Return the answer as a `kind`. Unknown fields are dropped, as newer brokers may add them."""
    names = {one.name for one in fields(kind)}  # type: ignore[arg-type]
    try:
        return kind(**{name: value for name, value in answer.items() if name in names})
    except TypeError as error:
        raise BrokerUnavailable(f"the answer of the broker is incomplete: {error}") from error
