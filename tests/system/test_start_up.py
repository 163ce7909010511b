"""Imports of the commands, and completion in shells."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from broker.cli.main import SUBCOMMANDS
from tests.support.commands import command_names, run
from tests.support.environment import ROOT

SERVER = frozenset({"aiohttp", "socketio", "engineio", "uvloop"})
DATABASES = frozenset({"sqlalchemy", "alembic", "redis", "obstore"})
LOGS = frozenset({"structlog", "prometheus_client"})
SETTINGS = frozenset({"pydantic", "jwt", "cryptography"})

HELP_OF_GROUPS = [f"{name} -h" for name in SUBCOMMANDS if name not in ("serve", "demo")]

UNUSED = [
    ("--help", SERVER | DATABASES | LOGS | SETTINGS),
    ("--version", SERVER | DATABASES | LOGS),
    *((words, SERVER | DATABASES | LOGS) for words in HELP_OF_GROUPS),
    ("config show", SERVER | DATABASES | LOGS),
    ("key create", SERVER | DATABASES | LOGS),
    ("key list", SERVER | DATABASES | LOGS),
    ("config check", SERVER),
    ("app list", SERVER),
]
"""Commands, and the libraries that they do not import. Each library takes long to import."""

PROGRAM = """
import atexit, sys
from broker.cli.main import main
atexit.register(lambda: print(*{module.partition(".")[0] for module in sys.modules}))
main()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a key file."""
    folder = tmp_path_factory.mktemp("start")
    assert run(folder, "key", "create").returncode == 0
    return folder


@pytest.mark.parametrize(("words", "unused"), UNUSED, ids=[words for words, _ in UNUSED])
def test_command_does_not_import_what_others_need(
    folder: Path, words: str, unused: frozenset[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words.split()],
        capture_output=True,
        text=True,
        timeout=90,
        cwd=folder,
        env={"PATH": "/usr/bin", "PYTHONPATH": str(ROOT)},
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert not unused & set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("shell", "variables"),
    [
        ("bash", {"COMP_WORDS": "scan-login a", "COMP_CWORD": "1"}),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "scan-login a"}),
        (
            "fish",
            {"_TYPER_COMPLETE_ARGS": "scan-login a", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
        ),
    ],
)
def test_shell_completes_the_names_of_commands(
    tmp_path: Path, shell: str, variables: dict[str, str]
) -> None:
    done = run(tmp_path, _SCAN_LOGIN_COMPLETE=f"complete_{shell}", **variables)

    assert "app" in done.stdout
    assert "audit" in done.stdout
    assert "serve" not in done.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [("scan-login key l", "list"), ("scan-login serve --po", "--port")],
)
def test_bash_completes_words_of_subcommands(tmp_path: Path, words: str, expected: str) -> None:
    variables = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}

    done = run(tmp_path, _SCAN_LOGIN_COMPLETE="complete_bash", **variables)

    assert done.stdout.split() == [expected]


def test_unknown_command_names_a_similar_one(tmp_path: Path) -> None:
    refused = run(tmp_path, "pol")

    assert refused.returncode == 2
    assert "No such command 'pol'" in refused.stderr
    assert "pool" in refused.stderr


def test_every_command_has_a_help_text() -> None:
    assert all(subcommand.load().help for subcommand in SUBCOMMANDS.values())
    assert ("key", "list") in command_names()
