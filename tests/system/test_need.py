"""Tests of `tools/need`, which checks that programs, libraries and files exist."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

NEED = Path("tools/need").resolve()


def need(folder: Path, *pairs: str, ci: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command with a `PATH` that has no apt-get, and `CI` as given."""
    (folder / "nginx").write_text("#!/bin/sh\n")
    (folder / "nginx").chmod(0o755)
    for program in ("sh", "id", "ls", "grep"):
        (folder / program).symlink_to(f"/bin/{program}")
    environment = {"PATH": str(folder), "CI": ci}
    command = ["/bin/sh", str(NEED), *pairs]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    "what", ["nginx", "libc.so.6", "{folder}/*/libfaketime.so.1", "{folder}/*/some.conf"]
)
def test_existing_thing_is_not_missing(tmp_path: Path, what: str) -> None:
    (tmp_path / "lib").mkdir()
    for name in ("libfaketime.so.1", "some.conf"):
        (tmp_path / "lib" / name).touch()

    run = need(tmp_path, f"{what.format(folder=tmp_path)}:package", ci="true")

    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


@pytest.mark.parametrize("what", ["no-program", "libnone.so.1", "/no/*/libnone.so.1", "/no/*"])
def test_missing_thing_is_named_and_an_error_in_ci(tmp_path: Path, what: str) -> None:
    run = need(tmp_path, "nginx:nginx-light", f"{what}:its-package", ci="true")

    assert run.returncode != 0
    assert "sudo apt-get install its-package" in run.stderr


def test_missing_thing_is_a_warning_outside_ci(tmp_path: Path) -> None:
    run = need(tmp_path, "no-program:its-package")

    assert run.returncode == 0
    assert "Missing Debian packages: its-package." in run.stderr
