"""The docs match the code: settings, error words, events, routes, commands, examples."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from broker.app import build
from broker.infrastructure.settings_sources import PREFIX
from broker.login.events import EVENT_BY_STATE, UNREGISTERED_EVENT
from broker.login.model import State
from broker.providers.wechat.errcodes import API_MEANINGS, MEANINGS, UNKNOWN, ErrorKind
from broker.settings import FIELDS, load_settings
from tests.support.commands import command_names
from tests.support.endpoints import event_names
from tests.support.environment import ROOT
from tests.support.error_words import STATUSES, WORDS

DOCS = ROOT / "docs"
PROTOCOL = (DOCS / "protocol.md").read_text()
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])

CODE_FILES = [
    *(file for folder in ("broker", "bench") for file in (ROOT / folder).rglob("*.py")),
    *(
        file
        for folder in ("support", "contract")
        for file in (ROOT / "tests" / folder).rglob("*.py")
    ),
]


def setting_row(name: str) -> str:
    """Return the row of docs/settings.md for a setting."""
    field = FIELDS[name]
    default = field.get_default(call_default_factory=False)
    default_text = "random" if name == "instance" else "–"
    if default not in (None, (), "") and name != "instance":
        default_text = f"`{str(default).lower() if isinstance(default, bool) else default}`"
    return f"| `{PREFIX}{name.upper()}` | {default_text} | {field.description} |"


@pytest.mark.parametrize("name", FIELDS)
def test_setting_is_documented_with_default_and_description(name: str) -> None:
    rows = (DOCS / "settings.md").read_text().splitlines()
    assert setting_row(name) in rows, f"missing in docs/settings.md:\n{setting_row(name)}"


def test_documented_settings_exist() -> None:
    text = "".join(page.read_text() for page in PAGES if page.name != "CHANGELOG.md")
    named = set(re.findall(rf"\b{PREFIX}([A-Z_]+)\b", text))
    known = {name.upper() for name in FIELDS}
    assert not named - known - {f"{name}_FILE" for name in known} - {"CONFIG"}


@pytest.mark.parametrize("word", sorted(WORDS))
def test_every_error_word_is_documented_with_its_status(word: str) -> None:
    assert f"| `{word}` | {STATUSES[word]} |" in PROTOCOL


def test_every_event_is_documented() -> None:
    pushes = [*EVENT_BY_STATE.values(), UNREGISTERED_EVENT]
    for event in [*event_names("/login"), *pushes]:
        assert f"| `{event}` |" in PROTOCOL, event
    for event in event_names("/phone"):
        assert f"| `POST /phone/{event}` |" in PROTOCOL, event


def test_every_state_is_documented() -> None:
    states = PROTOCOL.partition("## States")[2].partition("##")[0]
    assert all(state in states for state in State)


def test_every_route_is_documented(tmp_path: Path) -> None:
    broker = build(
        load_settings(
            key_file=tmp_path / "keys.json",
            admin_token="x" * 32,
            directory="sql",
            files_url=tmp_path.as_uri(),
        )
    )
    for application in (broker.public, broker.admin):
        for route in application.router.routes():
            path = route.resource.canonical if route.resource else ""
            if route.method in ("GET", "POST") and path not in (
                "/socket.io/",
                "/tunnel",
                "/tunnel/{ticket}",
                "/tunnel/wafer",
                "/tunnel/wafer/{ticket}",
            ):
                assert f"`{route.method} {path}`" in PROTOCOL, f"{route.method} {path}"


def test_every_command_is_documented() -> None:
    text = "".join(page.read_text() for page in PAGES)
    for words in map(" ".join, command_names()):
        assert f"scan-login {words}" in text, words


ANSWERS: Mapping[ErrorKind, str] = {
    ErrorKind.TIME: "`temporarily_unavailable`, again in 2 s",
    ErrorKind.TOKEN: "`temporarily_unavailable`, again in 2 s",
    ErrorKind.PAUSE: "`temporarily_unavailable`, again in 5 s",
    ErrorKind.QUOTA: "`temporarily_unavailable`, again in 60 s",
    ErrorKind.OPERATOR: "`temporarily_unavailable`, again in 30 s",
    ErrorKind.PHONE: "`invalid_session`",
    ErrorKind.PHONE_NUMBER: "`invalid_grant`",
    ErrorKind.BLOCKED: "`access_denied`",
    ErrorKind.TOO_OFTEN: "`rate_limited`, again in 60 s",
}


def test_wechat_errcodes_are_documented_with_remedies() -> None:
    lines = (DOCS / "wechat.md").read_text().splitlines()
    named = {f"`{errcode}`": meaning for errcode, meaning in MEANINGS.items()}
    named |= {
        f"`{errcode}` from `{api}`": meaning for (api, errcode), meaning in API_MEANINGS.items()
    }
    for name, meaning in {**named, "any other": UNKNOWN}.items():
        row = f"| {name} | {ANSWERS[meaning.kind]} | {meaning.advice} |"
        assert row in lines, f"missing in docs/wechat.md:\n{row}"


def test_mini_program_titles_are_documented_as_shown() -> None:
    errors_table = (DOCS / "miniprogram.md").read_text().partition("## Errors")[2]
    titles = re.findall(r"^\| `\w+` \| ([^|]+) \|", errors_table, re.MULTILINE)
    words = (ROOT / "mp_stub/miniprogram/scan-login/confirm/words.js").read_text()

    assert titles
    assert [title for title in titles if f'Title: "{title}"' not in words] == []
