"""Sends the acts of a phone to the broker over HTTP or Socket.IO.

    Phone ──scan, confirm, deny──▶ Transport
                                     ├─ HTTPTransport      POST /phone/<act>
                                     └─ SocketIOTransport  namespace /phone, answers as acks

Both send the same fields. They raise `Refused` if the broker answers with an
error, and `Unreachable` if there is no answer from the broker. They have no
timeout; the caller sets one.
"""

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

import aiohttp
import socketio

NAMESPACE = "/phone"

# Statuses for the error words of an ack. An HTTP answer has its status.
STATUSES: Mapping[str, int] = {
    "invalid_request": 400,
    "invalid_client": 401,
    "invalid_session": 401,
    "invalid_grant": 400,
    "authorization_pending": 400,
    "slow_down": 400,
    "access_denied": 403,
    "expired_token": 400,
    "unknown_scene": 404,
    "already_scanned": 409,
    "invalid_state": 409,
    "unregistered_user": 403,
    "rate_limited": 429,
    "temporarily_unavailable": 503,
}

Answer = dict[str, object]


class Session(NamedTuple):
    """The phone's session at the broker. `skey` is a secret."""

    id: str
    skey: str


def bearer(session: Session) -> Mapping[str, str]:
    """The headers that authenticate a request of `session`."""
    return {"Authorization": f"Bearer {session.id}.{session.skey}"}


class Refused(Exception):
    """The broker answered with an error.

    error: the error word, such as ``unknown_scene``.
    status: the HTTP status of the error.
    retry_after: seconds until the next attempt, if the broker sent them.
    register_url: the page where an unknown person can register, if there is one.
    """

    def __init__(
        self,
        error: str,
        description: str,
        status: int,
        retry_after: int | None = None,
        register_url: str | None = None,
    ) -> None:
        super().__init__(f"{error}: {description}")
        self.error = error
        self.description = description
        self.status = status
        self.retry_after = retry_after
        self.register_url = register_url


class Unreachable(Exception):
    """The broker did not answer. The message states what to do."""

    @classmethod
    def at(cls, broker: str, reason: str) -> "Unreachable":
        return cls(
            f"cannot reach the broker at {broker} ({reason}); start it with `scan-login serve`, "
            "or set its URL with --broker or BROKER_URL"
        )


class Transport(Protocol):
    """The connection of one phone to the broker."""

    async def send(self, act: str, payload: Answer, session: Session) -> Answer:
        """Send `act` to the broker with `session` and return the answer.

        Raises Refused or Unreachable. After Unreachable it is unknown whether the
        broker received the act. It is safe to send the act again.
        """

    async def close(self) -> None:
        """Close all connections. It is safe to close twice."""


class HTTPTransport:
    """Sends each act as a POST request."""

    def __init__(self, broker: str, http: aiohttp.ClientSession) -> None:
        self._broker = broker
        self._http = http

    async def send(self, act: str, payload: Answer, session: Session) -> Answer:
        return await post(self._http, self._broker, f"/phone/{act}", payload, bearer(session))

    async def close(self) -> None:
        """Does nothing: the caller owns the client session `http`."""


class SocketIOTransport:
    """Sends acts over one socket. It opens the socket at the first act and after a disconnect."""

    def __init__(self, broker: str, http: aiohttp.ClientSession) -> None:
        self._broker = broker
        self._http = http
        self._socket: PhoneSocket | None = None
        self._opening = asyncio.Lock()

    async def send(self, act: str, payload: Answer, session: Session) -> Answer:
        socket = await self._socket_for(session)
        try:
            return check_answer(await socket.call(act, payload))
        except (socketio.exceptions.SocketIOError, ConnectionError) as cause:
            raise Unreachable.at(self._broker, f"socket: {cause}") from cause

    async def close(self) -> None:
        socket, self._socket = self._socket, None
        if socket is not None:
            await socket.close()

    async def _socket_for(self, session: Session) -> "PhoneSocket":
        async with self._opening:
            if self._socket is None or not self._socket.is_usable_by(session):
                await self.close()
                self._socket = await PhoneSocket.open(self._broker, self._http, session)
            return self._socket


class PhoneSocket:
    """A connected Socket.IO client of one session."""

    def __init__(self, http: aiohttp.ClientSession, session: Session) -> None:
        self._session = session
        self._is_lost = False
        self._pending: set[asyncio.Future[object]] = set()
        self._connect_error: object = None
        # The main program handles SIGINT. The next act opens a new socket after a disconnect.
        self._client = socketio.AsyncClient(
            reconnection=False, handle_sigint=False, http_session=http
        )
        self._client.on("disconnect", self._on_disconnect, namespace=NAMESPACE)
        self._client.on("connect_error", self._on_connect_error, namespace=NAMESPACE)

    @classmethod
    async def open(
        cls, broker: str, http: aiohttp.ClientSession, session: Session
    ) -> "PhoneSocket":
        socket = cls(http, session)
        try:
            await socket._connect(broker)
        except (socketio.exceptions.ConnectionError, aiohttp.ClientError, OSError) as cause:
            raise socket._connect_failure(broker) from cause
        except asyncio.CancelledError:
            await socket.close()
            raise
        return socket

    def is_usable_by(self, session: Session) -> bool:
        return self._session == session and not self._is_lost

    async def call(self, act: str, payload: Answer) -> object:
        """Return the content of the ack. Raises ConnectionError if the socket closes first.

        AsyncClient.call would wait for its whole timeout in that case.
        """
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._pending.add(answer)
        try:
            await self._client.emit(
                act,
                payload,
                namespace=NAMESPACE,
                callback=lambda *arguments: set_answer(answer, arguments),
            )
            return await answer
        finally:
            self._pending.discard(answer)

    async def close(self) -> None:
        """Disconnect. Waits one second at most, because a dead peer does not answer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self._client.disconnect()

    async def _connect(self, broker: str) -> None:
        await self._client.connect(
            broker,
            socketio_path=f"{urlsplit(broker).path}/socket.io",
            auth=self._session._asdict(),
            transports=["websocket"],
            namespaces=[NAMESPACE],
            wait_timeout=10,
        )

    def _on_disconnect(self, _reason: object = None) -> None:
        self._is_lost = True
        for answer in self._pending:
            if not answer.done():
                answer.set_exception(ConnectionError("disconnected before the answer"))

    def _on_connect_error(self, refusal: object = None) -> None:
        self._connect_error = refusal

    def _connect_failure(self, broker: str) -> Exception:
        """The error for a failed connect: Refused if the broker sent an error word."""
        if not isinstance(self._connect_error, dict):
            return Unreachable.at(broker, "the socket could not be opened")
        return to_refused(connect_error_fields(self._connect_error))


def set_answer(answer: asyncio.Future[object], arguments: tuple[object, ...]) -> None:
    if not answer.done():  # the caller may have timed out
        answer.set_result(arguments[0] if arguments else None)


def connect_error_fields(refusal: Answer) -> Answer:
    """The error fields in a CONNECT_ERROR, which is `{message, data?}`.

    A message without an error word means an invalid session: CONNECT sends nothing else.
    """
    for fields in (refusal, refusal.get("data")):
        if isinstance(fields, dict) and "error" in fields:
            return fields
    message = str(refusal.get("message"))
    word = message if message in STATUSES else "invalid_session"
    return {"error": word, "error_description": message}


async def post(
    http: aiohttp.ClientSession,
    broker: str,
    path: str,
    payload: Answer,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """POST `payload` to the broker and return the answer. Raises Refused or Unreachable."""
    return await request(http, "POST", broker, path, payload, headers)


async def request(
    http: aiohttp.ClientSession,
    method: str,
    broker: str,
    path: str,
    payload: Answer | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Send a request to the broker and return the answer. Raises Refused or Unreachable.

    Redirects are not followed, because they would send the session to another host.
    """
    try:
        async with http.request(
            method, broker + path, json=payload, headers=headers, allow_redirects=False
        ) as response:
            body = await response.read()
    except (aiohttp.ClientError, OSError) as cause:
        raise Unreachable.at(broker, error_message(cause)) from cause
    answer = parse_json(body)
    if not isinstance(answer, dict) or (response.status >= 300 and "error" not in answer):
        raise Unreachable.at(broker, f"HTTP {response.status}, not an answer of a broker")
    return check_answer(answer, response.status)


# Messages for failures below HTTP. The first match counts.
ERROR_MESSAGES: tuple[tuple[type[Exception], str], ...] = (
    (aiohttp.InvalidURL, "not an http:// or https:// URL"),
    (aiohttp.NonHttpUrlClientError, "not an http:// or https:// URL"),
    (aiohttp.ClientConnectorDNSError, "unknown host"),
    (aiohttp.ClientConnectorCertificateError, "its certificate is not trusted"),
    (aiohttp.ClientConnectorError, "connection failed"),
    (aiohttp.ServerDisconnectedError, "the server closed the connection"),
)


def error_message(cause: Exception) -> str:
    messages = (message for kind, message in ERROR_MESSAGES if isinstance(cause, kind))
    return next(messages, str(cause) or type(cause).__name__)


def parse_json(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def check_answer(answer: object, status: int | None = None) -> Answer:
    """Return `answer`. Raises Refused if it is an error."""
    if not isinstance(answer, dict):
        raise ConnectionError("answer without content")
    if "error" in answer:
        raise to_refused(answer, status)
    return answer


def to_refused(answer: Answer, status: int | None = None) -> Refused:
    error = str(answer["error"])
    retry_after = answer.get("retry_after")
    register_url = answer.get("register_url")
    return Refused(
        error,
        str(answer.get("error_description") or "no description"),
        status or STATUSES.get(error, 400),
        int(retry_after) if isinstance(retry_after, int | float) else None,
        register_url if isinstance(register_url, str) else None,
    )
