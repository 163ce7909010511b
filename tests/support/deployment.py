"""The files of `deploy/` with the folders and addresses of a test."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tests.support.environment import ROOT

DEPLOY = ROOT / "deploy"


def settings_in(text: str) -> dict[str, str]:
    """Return the settings of a systemd environment file without quotes."""
    return dict(re.findall(r"^(SCAN_LOGIN_\w+)=(.*)$", text, re.MULTILINE))


def trial(settings: Mapping[str, str], url: str) -> dict[str, str]:
    """Return the settings with the pretend provider and `url` as public URL."""
    kept = {name: value for name, value in settings.items() if not is_of_provider(name)}
    return {**kept, "SCAN_LOGIN_ALLOW_PRETEND": "true", "SCAN_LOGIN_PUBLIC_URL": url}


def is_of_provider(name: str) -> bool:
    return name == "SCAN_LOGIN_PROVIDER" or name.startswith("SCAN_LOGIN_WECHAT_")
