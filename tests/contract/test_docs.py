"""The docs match the code: settings, error words, events, routes, commands, examples."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from prometheus_client import Counter, Gauge
from typer.main import get_command

from broker.app import build
from broker.apps.model import DEFAULT_APP
from broker.cli.main import command
from broker.infrastructure.observability import metrics
from broker.infrastructure.settings_sources import PREFIX
from broker.login.events import EVENT_BY_STATE, UNREGISTERED_EVENT
from broker.login.model import State
from broker.providers.wechat.errcodes import API_MEANINGS, MEANINGS, UNKNOWN, ErrorKind
from broker.settings import FIELDS, load_settings
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
        load_settings(key_file=tmp_path / "keys.json", admin_token="x" * 32, directory="sql")
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
    top = get_command(command)
    for name, meaning in top.commands.items():  # type: ignore[attr-defined]
        for words in [f"{name} {sub}" for sub in getattr(meaning, "commands", {})] or [name]:
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
    words = (ROOT / "mp_stub/miniprogram/words.js").read_text()

    assert titles
    assert [title for title in titles if f'Title: "{title}"' not in words] == []


def test_every_metric_is_documented() -> None:
    table = (DOCS / "alarms.md").read_text()
    for metric in vars(metrics).values():
        if isinstance(metric, Counter | Gauge):
            [described] = metric.describe()
            suffix = "_total" if isinstance(metric, Counter) else ""
            assert f"| `{described.name}{suffix}" in table, described.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_named_in_docs_exist(page: Path) -> None:
    if page.parent.name == "decisions" or page.name == "CHANGELOG.md":
        return
    for name in re.findall(
        r"`((?:broker|web_demo|mp_stub|deploy|tests|docs|tools)/[\w./-]*)`", page.read_text()
    ):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("page", ["tour.md", "extending.md"])
def test_named_code_exists(page: str) -> None:
    """Names such as `Lobby`, `RULES`, `open_bus` and `Redeemer.redeem`."""
    named = set(re.findall(r"`([A-Za-z_]\w*(?:\.\w+)?)`", (DOCS / page).read_text()))

    defined = {name for file in CODE_FILES for name in defined_names(file)}

    assert [name for name in sorted(named) if not is_defined_or_file(name, defined)] == []


def is_defined_or_file(name: str, defined: set[str]) -> bool:
    return name in defined or name == DEFAULT_APP or name.endswith((".py", ".toml"))


def defined_names(file: Path) -> Iterator[str]:
    """Names of classes, functions and constants, and `Class.member` for members of classes."""
    for node in ast.walk(ast.parse(file.read_text())):
        yield from names_of(node)
        if isinstance(node, ast.ClassDef):
            for member in node.body:
                yield from (f"{node.name}.{name}" for name in names_of(member))


def names_of(node: ast.AST) -> list[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else []
    targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
    return [target.id for target in targets if isinstance(target, ast.Name)]


def test_named_tests_exist() -> None:
    tests = "".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    defined = set(re.findall(r"def (test_\w+)\(", tests))

    pages = "".join(page.read_text() for page in PAGES if page.name != "CHANGELOG.md")

    assert set(re.findall(r"`(test_\w+)`", pages)) <= defined


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_examples_can_be_compiled(page: Path) -> None:
    for example in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        compile(example, str(page), "exec")


def test_readme_has_at_most_150_lines() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_every_page_is_in_the_navigation_and_the_index() -> None:
    pages = {page.name for page in DOCS.glob("*.md")}

    assert set(re.findall(r"(?<= )[\w-]+\.md", (ROOT / "mkdocs.yml").read_text())) == pages
    assert set(re.findall(r"\]\(([\w-]+\.md)\)", (DOCS / "index.md").read_text())) >= pages - {
        "index.md"
    }
