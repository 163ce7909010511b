"""One pretend person's phone, as a mini program would talk to the broker.

    async with Phone(name="alice") as phone:
        seen = await phone.scan(scene)
        print(seen["app"]["name"], seen["browser"]["ip"])
        await phone.confirm(seen["login_id"])

The proof of who holds it is `pretend:<name>`, which only the broker's pretend
provider believes, or a js_code of a pretend WeChat's.  A session that the broker
has forgotten is opened again once, unseen.  Every act may be repeated; the broker
knows the phone by the person, not by the session.
"""

import asyncio
import unicodedata
from types import TracebackType
from typing import Self, TypedDict, cast
from urllib.parse import parse_qs, urlsplit

import aiohttp

from mp_stub.transport import (
    Answer,
    HTTPTransport,
    Refused,
    Session,
    SocketIOTransport,
    Transport,
    Unreachable,
    post,
)

__all__ = [
    "BROKER",
    "NAME_MAX",
    "InvalidInput",
    "Phone",
    "Refused",
    "ScanResult",
    "Unreachable",
    "parse_person",
    "parse_scene",
]

BROKER = "http://127.0.0.1:8000"
ACT_TIMEOUT = 10.0  # seconds for one act, a fresh session included
NAME_MAX = 32


class InvalidInput(ValueError):
    """What a person typed is neither a name nor a scene; the message says why."""


class App(TypedDict):
    id: str
    name: str


class Browser(TypedDict):
    """ip, user_agent: as the broker saw them.  since: how many seconds ago it began."""

    ip: str
    user_agent: str
    since: int


class ScanResult(TypedDict):
    """What the person must see before confirming.  expires_in: seconds from now."""

    login_id: str
    state: str
    expires_in: int
    app: App
    browser: Browser


class Phone:
    """A phone that holds at most one session; use it as an async context manager.

    broker: the broker's address, without a path of its own.
    app: the id of the site or mini program whose code is scanned.
    name: the pretend person; the same name is the same person everywhere.
    socketio: scan, confirm and deny travel over a socket rather than HTTP.
    wechat: the address of a pretend WeChat, whose js_codes prove who it is.

    Entering does not touch the network; the first act opens the session.
    Every act raises Refused or Unreachable.
    """

    def __init__(
        self,
        *,
        broker: str = BROKER,
        app: str = "default",
        name: str = "alice",
        socketio: bool = False,
        wechat: str | None = None,
    ) -> None:
        self.name = name
        self._broker = broker.rstrip("/")
        self._app = app
        self._wechat = wechat and wechat.rstrip("/")
        self._transport_class = SocketIOTransport if socketio else HTTPTransport
        self._session: Session | None = None
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Self:
        # One clock for the whole act (see `_act`), not one for each request.
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
        self._transport: Transport = self._transport_class(self._broker, self._http)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._transport.close()
        await self._http.close()

    async def scan(self, scene: str) -> ScanResult:
        """Say that this person scanned `scene`; the browser that shows it is told."""
        return cast(ScanResult, await self._act("scan", {"scene": scene}))

    async def confirm(self, login_id: str) -> Answer:
        """Let that browser in as this person."""
        return await self._act("confirm", {"login_id": login_id})

    async def deny(self, login_id: str) -> Answer:
        """Turn that browser away for good."""
        return await self._act("deny", {"login_id": login_id})

    async def _act(self, act: str, payload: Answer) -> Answer:
        try:
            async with asyncio.timeout(ACT_TIMEOUT):
                return await self._send(act, payload)
        except TimeoutError as cause:
            reason = f"no answer within {ACT_TIMEOUT:.0f} seconds"
            raise Unreachable.at(self._broker, reason) from cause

    async def _send(self, act: str, payload: Answer) -> Answer:
        session = await self._session_other_than(None)
        try:
            return await self._transport.send(act, payload, session)
        except Refused as refusal:
            if refusal.error != "invalid_session":
                raise
        return await self._transport.send(act, payload, await self._session_other_than(session))

    async def _session_other_than(self, stale: Session | None) -> Session:
        """A session that is not `stale`; acts that find it stale together open one."""
        async with self._opening:
            if self._session is None or self._session is stale:
                self._session = await self._open_session()
            return self._session

    async def _open_session(self) -> Session:
        proof: Answer = {"app": self._app, "js_code": await self._js_code()}
        answer = await post(self._http, self._broker, "/phone/session", proof)
        return Session(str(answer.get("id")), str(answer.get("skey")))

    async def _js_code(self) -> str:
        """What `wx.login` gives a mini program."""
        if self._wechat is None:
            return f"pretend:{self.name}"
        try:
            answer = await post(self._http, self._wechat, "/pretend/login", {"person": self.name})
        except Unreachable as cause:
            raise Unreachable(
                f"cannot reach the pretend WeChat at {self._wechat}: "
                "start it with `python -m mp_stub wechat`"
            ) from cause
        return str(answer.get("code"))


def parse_scene(text: str) -> str:
    """Return the scene that `text` names: itself, or the one in the link that a code carries.

    What a scene looks like is for the broker to judge.  Raises Unreadable for
    a link that carries none.
    """
    text = text.strip()
    if "?" not in text and "://" not in text:
        return text
    try:
        scenes = parse_qs(urlsplit(text).query).get("scene")
    except ValueError as cause:
        raise InvalidInput(f"that is not a link: {cause}") from None
    if not scenes:
        raise InvalidInput("that link carries no scene: want …?scene=…")
    return scenes[0]


def parse_person(text: str) -> str:
    """Return the person that `text` names, in one spelling.

    'é' typed in one stroke or in two is the same person.  Raises Unreadable.
    """
    name = unicodedata.normalize("NFC", text)
    if not 0 < len(name) <= NAME_MAX:
        raise InvalidInput(f"a name has 1 to {NAME_MAX} characters")
    if not all(is_name_character(character) for character in name):
        raise InvalidInput("a name has letters, digits and -_. only")
    return name


def is_name_character(character: str) -> bool:
    """Letters of any script with their marks, decimal digits, and ``-_.``."""
    category = unicodedata.category(character)
    return character in "-_." or category[0] in "LM" or category == "Nd"
