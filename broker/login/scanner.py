"""Scans: the policy's verdict, the match that a login needs, and codes that many people scan."""

from __future__ import annotations

from typing import NamedTuple

import structlog

from broker.apps.errors import UnknownApp
from broker.apps.model import App
from broker.apps.ports import Apps
from broker.identity.model import Phone, identity_key
from broker.infrastructure.api.rate_limit import RateLimiter
from broker.infrastructure.clock import Clock
from broker.login.errors import AlreadyScanned, LoginRefused, PhoneTooOld, UnknownScene
from broker.login.limits import JUDGED_SCANS_PER_MINUTE, UserCodeLimit
from broker.login.match import MATCH_KINDS, MatchKind, draw_match
from broker.login.model import Act, Decision, Login, State, Verdict
from broker.login.ports import LoginPolicy, PolicyCase
from broker.login.reader import LoginReader
from broker.login.rules import Details, count_scan
from broker.login.user_code import parse_user_code
from broker.login.writer import LoginWriter

log = structlog.get_logger()


class ScanningPhone(NamedTuple):
    """Facts about the phone that scans, which the broker and a policy use.

    address: its address.
    knows_match: whether it can show a match.
    how: how it read the code, WeChat's launch scene such as 1047; None if unknown.
    """

    address: str = ""
    knows_match: bool = False
    how: int | None = None


UNKNOWN_PHONE = ScanningPhone()


class ScannedLogin(NamedTuple):
    """The login and the app that the phone shows before it confirms."""

    login: Login
    app: App


class Scanner:
    """Assigns logins to the phones that scan their codes.

    policy: None if every scan is allowed.
    scans_max: other people whose scans end a login.
    """

    def __init__(
        self,
        *,
        reader: LoginReader,
        writer: LoginWriter,
        apps: Apps,
        clock: Clock,
        policy: LoginPolicy | None,
        scans_max: int,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._apps = apps
        self._clock = clock
        self._policy = policy
        self._scans_max = scans_max
        self._user_code_limit = UserCodeLimit()
        self._judged = RateLimiter(JUDGED_SCANS_PER_MINUTE)

    async def scan(
        self, scene: str, phone: Phone, device: ScanningPhone = UNKNOWN_PHONE
    ) -> ScannedLogin:
        """Assign the login with this scene to `phone`. Only this phone can confirm it then.

        scene: from the code, or the user code that the person typed.

        The first scan asks the policy and draws the match; a repeat changes nothing.
        Raises PhoneTooOld if the login needs a match that the phone does not know, and RateLimited
        for a person with too many scans for the policy; the login stays pending. Raises
        LoginRefused if the policy denies the login; it is denied then.
        """
        login = await self._find(scene, phone)
        if not self._reader.is_scanned_by(login, phone):
            raise UnknownScene
        app = self._apps.get(login.app)
        if app is None:
            raise UnknownApp(login.app)
        details = await self._decide(login, app, phone, device)
        try:
            login = await self._writer.apply_and_store(login, Act.SCAN, **details)
        except AlreadyScanned:
            await self._count(login, phone)
            raise
        if login.state is State.DENIED:
            raise LoginRefused
        return ScannedLogin(login, app)

    async def _find(self, scene: str, phone: Phone) -> Login:
        code = parse_user_code(scene)
        if code is None:
            return await self._reader.require_by_scene(scene)
        with self._user_code_limit.counting(identity_key(phone.identity)):
            return await self._reader.require_by_user_code(code)

    async def _decide(self, login: Login, app: App, phone: Phone, device: ScanningPhone) -> Details:
        """Return the details of the scan; only the first one asks the policy."""
        if login.at(self._clock()).state is not State.PENDING:
            return {"phone": phone}
        is_requested = login.is_match_requested
        if needed_match(app, is_challenged=is_requested) and not device.knows_match:
            raise PhoneTooOld  # whatever the policy would decide
        verdict = await self._judge(login, phone, device)
        if device.how is not None:
            log.info("code scanned", login_id=login.id, how=device.how)
        is_challenged = is_requested or verdict.decision is Decision.CHALLENGE
        kind = needed_match(app, is_challenged=is_challenged)
        if kind is not None and not device.knows_match:
            raise PhoneTooOld
        return {
            "phone": phone,
            "phone_ip": device.address,
            "verdict": verdict,
            "match": None if kind is None else draw_match(kind),
        }

    async def _judge(self, login: Login, phone: Phone, device: ScanningPhone) -> Verdict:
        if self._policy is None:
            return Verdict(Decision.ALLOW)
        self._judged.count(identity_key(phone.identity))
        return await self._policy.judge(
            PolicyCase(
                app=login.app,
                login_id=login.id,
                began_at=login.began_at,
                browser=login.browser,
                known=bool(login.is_known_to(phone.identity)),
                phone_ip=device.address,
                how=device.how,
                identity=phone.identity,
            )
        )

    async def _count(self, login: Login, phone: Phone) -> None:
        """Count the person who scanned a code that another person holds."""
        if login.state is not State.SCANNED:  # another phone has scanned it since the read
            login = await self._reader.require(login.id)
        await self._writer.change_and_store(
            login,
            lambda before: count_scan(before, phone, now=self._clock(), limit=self._scans_max),
        )


def needed_match(app: App, *, is_challenged: bool) -> MatchKind | None:
    """Return the match of a login: that of the app, or a number for a challenge."""
    return MATCH_KINDS.get(app.match) or ("number" if is_challenged else None)
