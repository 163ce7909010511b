"""The phone of one test person. It calls the broker as a mini program does.

    async with Phone(name="alice") as phone:
        seen = await phone.scan(scene)
        print(seen["app"]["name"], seen["browser"]["ip"])
        await phone.confirm(seen["login_id"])

The phone opens its session with the js_code `pretend:<name>`, which only the
provider `pretend` accepts, or with a js_code of a WeChat stub. If the broker does
not know the session, the phone opens a new one and repeats the act once. It is
safe to repeat an act: the broker identifies the phone by the person.
"""

import asyncio
import unicodedata
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Literal, NotRequired, Self, TypedDict, cast
from urllib.parse import parse_qs, quote, urlsplit

import aiohttp

from mp_stub.transport import (
    Answer,
    HTTPTransport,
    Refused,
    Session,
    SocketIOTransport,
    Transport,
    Unreachable,
    bearer,
    post,
    request,
)

__all__ = [
    "BROKER",
    "NAME_MAX",
    "InvalidInput",
    "Phone",
    "Refused",
    "ScanResult",
    "SignIn",
    "Unreachable",
    "parse_person",
    "parse_scene",
]

BROKER = "http://127.0.0.1:8000"
ACT_TIMEOUT = 10.0  # seconds for one act, including a new session
NAME_MAX = 32


class InvalidInput(ValueError):
    """The text is not a valid name or does not contain a scene. The message states the reason."""


class App(TypedDict):
    """scopes: what the app gets to know, such as `profile`."""

    id: str
    name: str
    scopes: list[str]


class Browser(TypedDict):
    """ip, user_agent: as the broker received them. since: seconds since the login began.

    origin: of the page that shows the code. known: whether this person has used the browser before.
    """

    ip: str
    user_agent: str
    since: int
    origin: NotRequired[str]
    known: NotRequired[bool]


class Match(TypedDict):
    """choices: the numbers of which the browser shows one."""

    kind: Literal["number", "code"]
    choices: NotRequired[list[str]]


class ScanResult(TypedDict):
    """The facts that the person must see before confirming. expires_in: seconds from now."""

    login_id: str
    state: str
    expires_in: int
    app: App
    browser: Browser
    match: NotRequired[Match]


class SignIn(TypedDict):
    """A sign-in of this person. Times are Unix times in seconds.

    offline: the browser has signed out, but apps still have refresh tokens.
    """

    sid: str
    apps: list[str]
    ip: str
    user_agent: str
    began_at: int
    used_at: int
    offline: bool


class Phone:
    """A phone with at most one session. Use it as an async context manager.

    broker: the URL of the broker.
    app: the id of the site or mini program whose code is scanned.
    name: the test person. The same name is the same person in every Phone.
    socketio: send scan, confirm and deny over Socket.IO instead of HTTP.
    wechat: the URL of a WeChat stub that issues the js_codes.

    The first act opens the session. Entering the context sends no request.
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
        # No timeout for a single request: `_act` limits the whole act.
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
        """Scan `scene` as this person. The broker notifies the browser that shows the code."""
        return cast(ScanResult, await self._act("scan", {"scene": scene, "can": ["match"]}))

    async def confirm(self, login_id: str, match: str | None = None) -> Answer:
        """Sign the browser in as this person.

        match: the number that the person chose. For a match by code the answer has
        the digits to type in the browser as `match`.
        """
        chosen: Answer = {} if match is None else {"match": match}
        return await self._act("confirm", {"login_id": login_id, **chosen})

    async def deny(self, login_id: str) -> Answer:
        """End the login. The browser is not signed in."""
        return await self._act("deny", {"login_id": login_id})

    async def register(self, invitation: str) -> Answer:
        """Become the user whom an invitation names. Returns `subject` and `name`."""
        return await self._act("register", {"invitation": invitation})

    async def report(self, login_id: str) -> Answer:
        """Report a login that this person confirmed by mistake, and end its sign-ins."""
        return await self._request("POST", "/phone/report", {"login_id": login_id})

    async def sign_ins(self) -> list[SignIn]:
        """The sign-ins of this person in all apps, the oldest first."""
        answer = await self._request("GET", "/phone/signins")
        return cast(list[SignIn], answer["signins"])

    async def end_sign_in(self, sid: str) -> Answer:
        """End a sign-in. The broker notifies the apps that use it."""
        return await self._request("DELETE", f"/phone/signins/{quote(sid, safe='')}")

    async def end_sign_ins(self) -> Answer:
        """End all sign-ins of this person."""
        return await self._request("DELETE", "/phone/signins")

    async def _act(self, act: str, payload: Answer) -> Answer:
        return await self._in_session(lambda session: self._transport.send(act, payload, session))

    async def _request(self, method: str, path: str, payload: Answer | None = None) -> Answer:
        """Send a request that has no event on Socket.IO."""
        return await self._in_session(
            lambda session: request(
                self._http, method, self._broker, path, payload, bearer(session)
            )
        )

    async def _in_session(self, send: Callable[[Session], Awaitable[Answer]]) -> Answer:
        try:
            async with asyncio.timeout(ACT_TIMEOUT):
                return await self._send(send)
        except TimeoutError as cause:
            reason = f"no answer within {ACT_TIMEOUT:.0f} seconds"
            raise Unreachable.at(self._broker, reason) from cause

    async def _send(self, send: Callable[[Session], Awaitable[Answer]]) -> Answer:
        session = await self._session_other_than(None)
        try:
            return await send(session)
        except Refused as refusal:
            if refusal.error != "invalid_session":
                raise
        return await send(await self._session_other_than(session))

    async def _session_other_than(self, stale: Session | None) -> Session:
        """A session other than `stale`. Concurrent acts share the new session."""
        async with self._opening:
            if self._session is None or self._session is stale:
                self._session = await self._open_session()
            return self._session

    async def _open_session(self) -> Session:
        proof: Answer = {"app": self._app, "js_code": await self._js_code()}
        answer = await post(self._http, self._broker, "/phone/session", proof)
        return Session(str(answer.get("id")), str(answer.get("skey")))

    async def _js_code(self) -> str:
        """A js_code, which a mini program gets from `wx.login`."""
        if self._wechat is None:
            return f"pretend:{self.name}"
        try:
            answer = await post(self._http, self._wechat, "/pretend/login", {"person": self.name})
        except Unreachable as cause:
            raise Unreachable(
                f"cannot reach the WeChat stub at {self._wechat}; "
                "start it with `python -m mp_stub wechat`"
            ) from cause
        return str(answer.get("code"))


def parse_scene(text: str) -> str:
    """Return the scene in `text`, which is a scene or a link with the parameter `scene`.

    The broker checks the format of the scene. Raises InvalidInput for a link without a scene.
    """
    text = text.strip()
    if "?" not in text and "://" not in text:
        return text
    try:
        scenes = parse_qs(urlsplit(text).query).get("scene")
    except ValueError as cause:
        raise InvalidInput(f"invalid link: {cause}") from None
    if not scenes:
        raise InvalidInput("link has no parameter `scene`; expected …?scene=…")
    return scenes[0]


def parse_person(text: str) -> str:
    """Return the name in `text`, normalized to NFC. Raises InvalidInput.

    NFC makes 'é' as one character and 'é' as two characters the same name.
    """
    name = unicodedata.normalize("NFC", text)
    if not 0 < len(name) <= NAME_MAX:
        raise InvalidInput(f"name must have 1 to {NAME_MAX} characters")
    if not all(is_name_character(character) for character in name):
        raise InvalidInput("name may contain letters, digits and -_. only")
    return name


def is_name_character(character: str) -> bool:
    """Whether `character` is a letter or mark of any script, a decimal digit, or one of ``-_.``."""
    category = unicodedata.category(character)
    return character in "-_." or category[0] in "LM" or category == "Nd"
