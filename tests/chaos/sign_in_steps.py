"""The steps of a sign-in with OpenID Connect, each at an instance of choice, with retries."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import secrets
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp

from tests.support.clients import PhoneClient

REDIRECT_URI = "http://127.0.0.1:1/callback"

APP = "shop"

RETRY_TIMEOUT = 50.0
"""Seconds for which a browser sends its form again. The login can be claimed for 60."""


def add_app(folder: Path) -> str:
    """Add the app to the records in `folder` by command, and return its secret."""
    command = [sys.executable, "-m", "broker", "app", "add", APP, "--oidc"]
    command += ["--redirect-url", REDIRECT_URI, "--scope", "openid", "--scope", "offline_access"]
    output = subprocess.check_output(command, cwd=folder, text=True)
    return output.rpartition("client_secret: ")[2].strip()


@dataclass
class Steps:
    """One sign-in.  cookie: of its request, as the browser sends it."""

    http: aiohttp.ClientSession
    secret: str
    person: str
    cookie: str = ""
    request: str = ""
    login_id: str = ""
    login_secret: str = ""
    scene: str = ""
    verifier: str = ""

    async def begin(self, url: str) -> None:
        """Open the sign-in page and get a code."""
        self.verifier = secrets.token_urlsafe(32)
        digest = hashlib.sha256(self.verifier.encode()).digest()
        query = {
            "client_id": APP,
            "redirect_uri": REDIRECT_URI,
            "response_type": "code",
            "scope": "openid offline_access",
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        async with self.http.get(f"{url}/oauth/authorize", params=query) as page:
            self.cookie = "; ".join(f"{name}={one.value}" for name, one in page.cookies.items())
            [self.request] = re.findall(r'request="([\w-]{43})"', await page.text())
        form = {"client_id": APP, "request": self.request}
        async with self.http.post(f"{url}/oauth/device_authorization", data=form) as response:
            login = await response.json()
        self.login_id, _, self.login_secret = login["device_code"].partition(".")
        self.scene = login["user_code"]

    async def confirm(self, url: str) -> None:
        async with PhoneClient(url, self.person) as phone:
            assert (await phone.post("scan", {"scene": self.scene})).status == 200
            assert (await phone.post("confirm", {"login_id": self.login_id})).status == 200

    async def submit_once(self, url: str) -> str | None:
        """Submit the form of the page. Return the code; None if a browser would try again."""
        form = {"request": self.request, "login_id": self.login_id, "secret": self.login_secret}
        headers = {"Cookie": self.cookie, "Sec-Fetch-Site": "same-origin"}
        try:
            async with self.http.post(
                f"{url}/oauth/login", data=form, headers=headers, allow_redirects=False
            ) as response:
                if response.status == 503:
                    return None
                assert response.status == 303, await response.text()
                return parse_qs(urlsplit(response.headers["Location"]).query)["code"][0]
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None

    async def submit(self, url: str) -> str:
        """Submit the form until the broker answers with a code."""
        async with asyncio.timeout(RETRY_TIMEOUT):
            while (code := await self.submit_once(url)) is None:
                await asyncio.sleep(0.2)
        return code

    async def exchange(self, url: str, code: str) -> dict[str, Any]:
        """Exchange the code, again while the broker is unavailable. Return the answer."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": REDIRECT_URI,
            "code_verifier": self.verifier,
        }
        headers = {"Authorization": aiohttp.encode_basic_auth(APP, self.secret)}
        async with asyncio.timeout(RETRY_TIMEOUT):
            while True:
                try:
                    async with self.http.post(
                        f"{url}/oauth/token", data=form, headers=headers
                    ) as response:
                        if response.status != 503:
                            return dict(await response.json())
                except (aiohttp.ClientError, OSError):
                    pass
                await asyncio.sleep(0.2)
