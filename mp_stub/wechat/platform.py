"""The state and the rules of WeChat, without HTTP: functions from request to answer fields.

An error is a `WeChatRefusal` with WeChat's errcode. Its message ends with a `rid`, as at
WeChat, where the support finds a request by its rid.
"""

import base64
import hashlib
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

ERRMSGS: Mapping[int, str] = {
    -1: "system error",
    40001: "invalid credential, access_token is invalid or not latest, "
    "could get access_token by getStableAccessToken",
    40002: "invalid grant_type",
    40013: "invalid appid",
    40014: "invalid access_token",
    40029: "invalid code",
    40097: "invalid args",
    40125: "invalid appsecret",
    40129: "invalid scene",
    40163: "code been used",
    40164: "invalid ip 203.0.113.7 ipv6 ::ffff:203.0.113.7, not in whitelist",
    40169: "invalid length for scene, or the data is not json string",
    40226: "code blocked",
    40243: "appsecret frozen",
    41001: "access_token missing",
    41002: "appid missing",
    41004: "appsecret missing",
    41008: "missing code",
    41030: "invalid page",
    42001: "access_token expired",
    45009: "reach max api daily quota limit",
    45011: "api minute-quota reach limit  mustslower  retry next minute",
    47001: "data format error",
    48001: "api unauthorized",
}

APPID, SECRET = "wx000000000pretend", "pretend-secret"
"""The default mini program."""

TOKEN_LIFETIME = 7200
"""Seconds that an access token is valid."""

TOKEN_OVERLAP = 300
"""Seconds before the expiry of a token in which WeChat issues the next one. Both are valid."""

JS_CODE_LIFETIME = 300
"""Seconds that a js_code is valid. It can be used once."""

REFRESHES_MAX, REFRESH_INTERVAL = 20, 30
"""Forced refreshes per day, and the seconds between two of them. An earlier one has no effect."""

SCENE = re.compile(r"[0-9A-Za-z!#$&'()*+,/:;=?@\-._~]*")
SCENE_MAX = 32
PAGE = re.compile(r"[\w-]+(/[\w-]+)*", re.ASCII)
VERSIONS = ("release", "trial", "develop")
WIDTH_MIN, WIDTH_MAX = 280, 1280

Fields = Mapping[str, object]


class WeChatRefusal(Exception):
    """An error answer of WeChat: over HTTP, status 200 and `{errcode, errmsg}`."""

    def __init__(self, errcode: int) -> None:
        rid = "-".join(secrets.token_hex(4) for _ in range(3))
        self.errcode = errcode
        self.errmsg = f"{ERRMSGS.get(errcode, 'unknown')} rid: {rid}"
        super().__init__(self.errmsg)


class MiniProgram(NamedTuple):
    """A registered mini program.

    pages: the pages of its released version.
    has_unionid: whether it belongs to an Open Platform account, which gives users a unionid.
    """

    appid: str
    secret: str
    pages: Sequence[str] = ("pages/index/wsLogin",)
    has_unionid: bool = True


class Token(NamedTuple):
    """An access token. issued_at, expires_at: Unix time in seconds."""

    value: str
    appid: str
    issued_at: float
    expires_at: float


PHONE_CODE_LIFETIME = 300
"""Seconds that a code for a phone number is valid. It can be used once."""


class PhoneNumberCode(NamedTuple):
    """number: without the country code."""

    appid: str
    person: str
    country: str
    number: str
    expires_at: float


class JsCode(NamedTuple):
    appid: str
    person: str
    expires_at: float


class Code(NamedTuple):
    """The content of a code, and its width in pixels."""

    appid: str
    page: str
    scene: str
    width: int


class Platform:
    """The registered mini programs and their access tokens and js_codes.

    clock: Unix time in seconds.
    issued: every access token, js_code and session_key so far, for tests that look for leaks.
    """

    def __init__(
        self, programs: Sequence[MiniProgram], *, clock: Callable[[], float] = time.time
    ) -> None:
        self.programs = {program.appid: program for program in programs}
        self.issued: set[str] = set()
        self._clock = clock
        self._latest: dict[str, Token] = {}
        self._tokens: dict[str, Token] = {}
        self._refreshes: dict[str, list[float]] = {}
        self._js_codes: dict[str, JsCode] = {}
        self._used: set[str] = set()
        self._phone_codes: dict[str, PhoneNumberCode] = {}

    def stable_token(self, body: Fields) -> Fields:
        """The current access token, or a new one near its expiry or on `force_refresh`."""
        if body.get("grant_type") != "client_credential":
            raise WeChatRefusal(40002)
        program = self._program(body)
        if body.get("force_refresh") is True and self._may_refresh(program.appid):
            self.revoke(program.appid)
        now = self._clock()
        token = self._latest.get(program.appid)
        if token is None or now >= token.expires_at - TOKEN_OVERLAP:
            value = self._issue(f"86_{secrets.token_urlsafe(96)}")
            token = Token(value, program.appid, now, now + TOKEN_LIFETIME)
            self._latest[program.appid] = self._tokens[value] = token
        return {"access_token": token.value, "expires_in": int(token.expires_at - now)}

    def revoke(self, appid: str) -> None:
        """Revoke all tokens of a mini program, as a forced refresh or a new secret does."""
        self._latest.pop(appid, None)
        self._tokens = {
            value: token for value, token in self._tokens.items() if token.appid != appid
        }

    def code(self, access_token: str | None, body: Fields) -> Code:
        """`getwxacodeunlimit`: the code to draw."""
        appid = self._appid_of_token(access_token)
        page = body.get("page", "")
        width = body.get("width", 430)
        if not isinstance(page, str) or not isinstance(width, int):
            raise WeChatRefusal(47001)
        if not WIDTH_MIN <= width <= WIDTH_MAX or body.get("env_version", "release") not in (
            VERSIONS
        ):
            raise WeChatRefusal(40097)
        checked = body.get("check_path", True) is not False
        if page and (not PAGE.fullmatch(page) or (checked and page not in self._pages(appid))):
            raise WeChatRefusal(41030)
        return Code(appid, page, _scene(body.get("scene")), width)

    def login(self, person: str, appid: str | None = None) -> str:
        """`wx.login` on the phone of `person`. Returns a js_code.

        appid: the mini program; the first one by default.
        """
        program = self.programs[appid] if appid else next(iter(self.programs.values()))
        js_code = self._issue(secrets.token_hex(16))
        expires_at = self._clock() + JS_CODE_LIFETIME
        self._js_codes[js_code] = JsCode(program.appid, person, expires_at)
        return js_code

    def session(self, query: Fields) -> Fields:
        """`jscode2session`: the person's openid and unionid, and the session_key."""
        program = self._program(query)
        if query.get("grant_type") != "authorization_code":
            raise WeChatRefusal(40002)
        js_code = query.get("js_code")
        if not isinstance(js_code, str) or not js_code:
            raise WeChatRefusal(41008)
        if js_code in self._used:
            raise WeChatRefusal(40163)
        login = self._js_codes.get(js_code)
        if login is None or login.appid != program.appid or self._clock() >= login.expires_at:
            raise WeChatRefusal(40029)
        self._used.add(js_code)
        answer = {
            "session_key": self._issue(base64.b64encode(secrets.token_bytes(16)).decode()),
            "openid": person_id(program.appid, login.person),
        }
        return {**answer, "unionid": person_id("", login.person)} if program.has_unionid else answer

    def tap_phone_number(
        self, person: str, number: str, country: str = "86", appid: str | None = None
    ) -> str:
        """A tap on the button for the phone number. Returns a code."""
        program = self.programs[appid] if appid else next(iter(self.programs.values()))
        code = self._issue(secrets.token_hex(32))
        expires_at = self._clock() + PHONE_CODE_LIFETIME
        self._phone_codes[code] = PhoneNumberCode(
            program.appid, person, country, number, expires_at
        )
        return code

    def phone_number(self, access_token: str | None, body: Fields) -> Fields:
        """`getuserphonenumber`: the number that the person has allowed the mini program to read."""
        appid = self._appid_of_token(access_token)
        tapped = self._phone_codes.get(str(body.get("code")))
        if tapped is None or self._clock() >= tapped.expires_at:
            raise WeChatRefusal(40029)
        if tapped.appid != appid:
            raise WeChatRefusal(40013)
        if body.get("openid") not in (None, person_id(appid, tapped.person)):
            raise WeChatRefusal(40029)
        del self._phone_codes[str(body["code"])]
        prefix = "" if tapped.country == "86" else f"+{tapped.country}"
        return {
            "errcode": 0,
            "errmsg": "ok",
            "phone_info": {
                "phoneNumber": f"{prefix}{tapped.number}",
                "purePhoneNumber": tapped.number,
                "countryCode": tapped.country,
                "watermark": {"timestamp": int(self._clock()), "appid": appid},
            },
        }

    def _issue(self, secret: str) -> str:
        self.issued.add(secret)
        return secret

    def _program(self, fields: Fields) -> MiniProgram:
        if not fields.get("appid"):
            raise WeChatRefusal(41002)
        if not fields.get("secret"):
            raise WeChatRefusal(41004)
        program = self.programs.get(str(fields["appid"]))
        if program is None:
            raise WeChatRefusal(40013)
        if fields["secret"] != program.secret:
            raise WeChatRefusal(40125)
        return program

    def _may_refresh(self, appid: str) -> bool:
        now = self._clock()
        past = [at for at in self._refreshes.get(appid, []) if now - at < 86_400]
        allowed = len(past) < REFRESHES_MAX and (not past or now - past[-1] >= REFRESH_INTERVAL)
        self._refreshes[appid] = [*past, now] if allowed else past
        return allowed

    def _appid_of_token(self, access_token: str | None) -> str:
        if not access_token:
            raise WeChatRefusal(41001)
        if not re.fullmatch(r"[\w-]{1,512}", access_token, re.ASCII):
            raise WeChatRefusal(40014)
        token = self._tokens.get(access_token)
        if token is None:
            raise WeChatRefusal(40001)
        if self._clock() >= token.expires_at:
            raise WeChatRefusal(42001)
        return token.appid

    def _pages(self, appid: str) -> Sequence[str]:
        return self.programs[appid].pages


def person_id(appid: str, person: str) -> str:
    """The openid of `person` in a mini program, or the unionid if `appid` is empty.

    28 characters that begin with an o, as at WeChat.
    """
    digest = hashlib.sha256(f"{appid}:{person}".encode()).digest()
    return f"o{base64.urlsafe_b64encode(digest).decode()[:27]}"


def _scene(scene: object) -> str:
    if not isinstance(scene, str) or not 0 < len(scene) <= SCENE_MAX:
        raise WeChatRefusal(40169)
    if not SCENE.fullmatch(scene):
        raise WeChatRefusal(40129)
    return scene
