"""Fields about a login that its browser shows, on a socket and when it polls."""

from __future__ import annotations

import asyncio
from typing import NotRequired

from broker.apps.model import App
from broker.apps.ports import Apps
from broker.errors import BrokerError
from broker.identity.model import Phone, UserProfile
from broker.identity.ports import Directory
from broker.infrastructure.api.schema import ResponseModel
from broker.infrastructure.fields import is_web_url
from broker.login.model import Login, State

PROFILE_TIMEOUT = 2.0
"""Seconds that a browser waits for the directory. Without an answer it shows no name."""

NAME_MASK = "***"
"""Follows the first letter of a name, whatever its length."""


class BrowserApp(ResponseModel):
    """The app of a login. provider: its name, by which a page can name the phone's app."""

    name: str
    provider: str
    logo_url: NotRequired[str]


class ScannerFields(ResponseModel):
    """The person who scanned. name: masked. picture: a URL."""

    name: NotRequired[str]
    picture: NotRequired[str]


class LinkResponse(ResponseModel):
    """The short code of a login and the page for it, as in the device flow."""

    user_code: str
    verification_uri: str
    verification_uri_complete: str


def app_fields(app: App) -> BrowserApp:
    fields: BrowserApp = {"name": app.name, "provider": app.provider}
    if app.logo_url:
        fields["logo_url"] = app.logo_url
    return fields


def register_url_field(app: App) -> dict[str, str]:
    """Return `register_url` as a response field, or no field if the app has none."""
    return {"register_url": app.register_url} if app.register_url else {}


def link_fields(user_code: str, verification_uri: str) -> LinkResponse:
    return {
        "user_code": user_code,
        "verification_uri": verification_uri,
        "verification_uri_complete": f"{verification_uri}?user_code={user_code}",
    }


def match_fields(login: Login) -> dict[str, str | int]:
    """Return what the browser shows for the login's match; no field if it shows nothing.

    `match` is the number that the person chooses on the phone. With `prove`, the person types the
    digits of the phone in the browser, and `tries` are left.
    """
    if login.match is None or login.state is not State.SCANNED:
        return {}
    if login.match.kind == "number":
        return {"match": login.match.answer}
    return {"prove": True, "tries": login.match.tries_left}


def shows_scanner(app: App | None) -> bool:
    """Return whether browsers of `app` show the person who scanned."""
    return app is not None and app.show_scanner != "off"


def mask_name(name: str) -> str:
    """Return a name that its owner recognizes, such as `A***`; empty for an empty name."""
    first = name.strip()[:1]
    return first + NAME_MASK if first else ""


def mask_profile(profile: UserProfile, app: App) -> ScannerFields:
    """Return what browsers of `app` may show of a person."""
    fields: ScannerFields = {}
    if name := mask_name(profile.nickname or profile.name or ""):
        fields["name"] = name
    if app.show_scanner == "picture" and profile.picture and is_web_url(profile.picture):
        fields["picture"] = profile.picture
    return fields


class ScannerProfiles:
    """Reads the person who scanned a login, for the browser that has the login's secret.

    profiles: the directory, whose answers may be some seconds old.
    """

    def __init__(self, *, apps: Apps, profiles: Directory) -> None:
        self._apps = apps
        self._profiles = profiles

    async def fields(self, login: Login) -> dict[str, ScannerFields]:
        """Return the response field `scanner`.

        There is no field if the app does not allow it, if the login is not scanned, or if the
        directory does not know the person or does not answer in time.
        """
        app = self._apps.get(login.app)
        if login.state is not State.SCANNED or login.phone is None or app is None:
            return {}
        shown = await self._read(login.phone, app) if shows_scanner(app) else {}
        return {"scanner": shown} if shown else {}

    async def _read(self, phone: Phone, app: App) -> ScannerFields:
        try:
            async with asyncio.timeout(PROFILE_TIMEOUT):
                return mask_profile(await self._profiles.find(phone.identity), app)
        except (BrokerError, TimeoutError):
            return {}
