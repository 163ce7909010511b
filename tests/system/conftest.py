"""Fixtures for the tests of commands."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from broker.cli.main import command
from tests.support.commands import Call, CommandResult


@pytest.fixture
def call(tmp_path: Path, records_file: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Calls a command in a new folder. Keyword arguments are environment variables."""
    monkeypatch.chdir(tmp_path)
    records_file.rename("scan-login.db")

    def call(*words: str, stdin: str = "", **variables: str) -> CommandResult:
        done = CliRunner().invoke(command, words, input=stdin, env=variables)
        assert done.exception is None or isinstance(done.exception, SystemExit)
        return CommandResult(done.exit_code, done.output)

    return call
