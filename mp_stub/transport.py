"""How a phone's acts reach the broker: over HTTP, or over Socket.IO.

    Phone ──scan, confirm, deny──▶ Wire ─┬─ OverHttp      POST /phone/<act>
                                         └─ OverSocketio  namespace /phone, the answer in the ack

Both say the same words and fail in the same two ways: `Refused` when the
broker answered no, `Unreachable` when there was no answer of the broker's.
Neither keeps time: whoever sends sets the limit.
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

# HTTP says the status itself; an ack carries only the word.
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
    """What the broker knows this phone by.  `skey` is as good as a password."""

    id: str
    skey: str


class Refused(Exception):
    """The broker answered, and the answer is no.

    error: the wire's word, such as ``unknown_scene``.
    status: the HTTP status that belongs to it.
    retry_after: seconds to wait before asking again, where the broker said so.
    register_url: where a person whom the site does not know can register.
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
    """No answer of the broker's came.  The message says what to do about it."""

    @classmethod
    def at(cls, broker: str, reason: str) -> "Unreachable":
        return cls(
            f"cannot reach the broker at {broker} ({reason}): start it with `scan-login serve`, "
            "or give its address with --broker or BROKER_URL"
        )


class Transport(Protocol):
    """One phone's way to the broker."""

    async def send(self, act: str, payload: Answer, session: Session) -> Answer:
        """Say `act` to the broker as `session` and return its answer.

        Raises Refused or Unreachable.  After Unreachable the act may or may
        not have happened; to send it again is harmless.
        """

    async def close(self) -> None:
        """Let go of everything held open.  Closing twice is harmless."""


class HTTPTransport:
    """Each act is one POST."""

    def __init__(self, broker: str, http: aiohttp.ClientSession) -> None:
        self._broker = broker
        self._http = http

    async def send(self, act: str, payload: Answer, session: Session) -> Answer:
        bearer = {"Authorization": f"Bearer {session.id}.{session.skey}"}
        return await post(self._http, self._broker, f"/phone/{act}", payload, bearer)

    async def close(self) -> None:
        """Nothing: the connections belong to the `http` that was passed in."""


class SocketIOTransport:
    """One socket, opened at the first act and again whenever it was lost."""

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
    """A connected Socket.IO client that belongs to one session."""

    def __init__(self, http: aiohttp.ClientSession, session: Session) -> None:
        self._session = session
        self._is_lost = False
        self._pending: set[asyncio.Future[object]] = set()
        self._connect_error: object = None
        # Ctrl-C belongs to whoever runs us, and a lost socket is opened by the next act.
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
        """Return what the ack carried; ConnectionError when the socket is lost first.

        The client's own `call` would sit out its whole time limit then.
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
        """Say goodbye, for a second at most: a dead peer may never answer."""
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
                answer.set_exception(ConnectionError("lost before the answer"))

    def _on_connect_error(self, refusal: object = None) -> None:
        self._connect_error = refusal

    def _connect_failure(self, broker: str) -> Exception:
        """Why the connection was not made: the broker's word if it said one."""
        if not isinstance(self._connect_error, dict):
            return Unreachable.at(broker, "no socket could be opened")
        return to_refused(connect_error_fields(self._connect_error))


def set_answer(answer: asyncio.Future[object], arguments: tuple[object, ...]) -> None:
    if not answer.done():  # the caller may have stopped waiting
        answer.set_result(arguments[0] if arguments else None)


def connect_error_fields(refusal: Answer) -> Answer:
    """Find the wire's words in a CONNECT_ERROR, which is `{message, data?}`.

    A bare sentence there can only be about the session: nothing else is shown at CONNECT.
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
    """POST `payload` to the broker and return its answer.

    Redirects are not followed: they would carry the session to another host.
    Raises Refused or Unreachable.
    """
    try:
        async with http.post(
            broker + path, json=payload, headers=headers, allow_redirects=False
        ) as response:
            body = await response.read()
    except (aiohttp.ClientError, OSError) as cause:
        raise Unreachable.at(broker, error_message(cause)) from cause
    answer = parse_json(body)
    if not isinstance(answer, dict) or (response.status >= 300 and "error" not in answer):
        raise Unreachable.at(broker, f"{response.status}, and not in the broker's words")
    return check_answer(answer, response.status)


# What went wrong below HTTP, in a person's words; the first that fits counts.
ERROR_MESSAGES: tuple[tuple[type[Exception], str], ...] = (
    (aiohttp.InvalidURL, "that is no http:// or https:// address"),
    (aiohttp.NonHttpUrlClientError, "that is no http:// or https:// address"),
    (aiohttp.ClientConnectorDNSError, "no such host"),
    (aiohttp.ClientConnectorCertificateError, "its certificate is not trusted"),
    (aiohttp.ClientConnectorError, "nothing answers there"),
    (aiohttp.ServerDisconnectedError, "it hung up"),
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
    """Return `answer` if it is a yes; raise it as Refused if it is a no."""
    if not isinstance(answer, dict):
        raise ConnectionError("an answer without a body")
    if "error" in answer:
        raise to_refused(answer, status)
    return answer


def to_refused(answer: Answer, status: int | None = None) -> Refused:
    error = str(answer["error"])
    retry_after = answer.get("retry_after")
    register_url = answer.get("register_url")
    return Refused(
        error,
        str(answer.get("error_description") or "the broker gave no reason"),
        status or STATUSES.get(error, 400),
        int(retry_after) if isinstance(retry_after, int | float) else None,
        register_url if isinstance(register_url, str) else None,
    )
