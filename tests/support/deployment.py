"""The files of `deploy/` with the folders and addresses of a test."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from tests.support.environment import ROOT

DEPLOY = ROOT / "deploy"

HSTS_HOSTS = {
    "login.example": True,
    "localhost.example": True,
    "shop.localhost": False,
    "shop.test": False,
    "shop.LOCAL": False,
    "shop.internal": False,
    "router.home.arpa": False,
    "intranet": False,
    "127.0.0.1": False,
}
"""Host names, and whether a proxy sends HSTS for them."""


def settings_in(text: str) -> dict[str, str]:
    """Return the settings of a systemd environment file without quotes."""
    return dict(re.findall(r"^(SCAN_LOGIN_\w+)=(.*)$", text, re.MULTILINE))


def trial(settings: Mapping[str, str], url: str) -> dict[str, str]:
    """Return the settings with the pretend provider and `url` as public URL."""
    kept = {name: value for name, value in settings.items() if not is_of_provider(name)}
    return {**kept, "SCAN_LOGIN_ALLOW_PRETEND": "true", "SCAN_LOGIN_PUBLIC_URL": url}


def is_of_provider(name: str) -> bool:
    return name == "SCAN_LOGIN_PROVIDER" or name.startswith("SCAN_LOGIN_WECHAT_")


def example_of(page: str, language: str, start: str) -> str:
    """Return the example in `language` of a page that begins with `start`."""
    blocks = re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)
    [example] = [block for block in blocks if block.startswith(start)]
    return str(example)


def variables_of_image() -> dict[str, str]:
    """Return the variables that the Dockerfile sets."""
    dockerfile = (ROOT / "Dockerfile").read_text().replace("\\\n", "")
    return dict(re.findall(r"(SCAN_LOGIN_\w+)=(\S+)", dockerfile))


def status(port: str, path: str) -> int:
    """Return the status of a GET at a server of this machine."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=90) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def move_below(text: str, root: Path) -> str:
    """Return `text` with the image's folders below `root`."""
    return re.sub(r"/(run/secrets|var/lib)/scan-login", rf"{root}/\1/scan-login", text)
