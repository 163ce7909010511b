"""Contents of the wheel and of the tarball, and the wheel without its extra."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.client_packages import NODE_MODULES, python_command
from tests.support.environment import ROOT, need


def test_types_for_node_are_complete(node_folder: Path) -> None:
    """The compiler reports a missing type, and an `@ts-expect-error` without an error."""
    need("node")
    script = node_folder / "types.mts"
    script.write_text((ROOT / "tests/clients/backend/types.ts").read_text())
    options = [
        "--noEmit",
        "--strict",
        "--skipLibCheck",
        "--module",
        "nodenext",
        "--target",
        "es2022",
    ]
    options += ["--typeRoots", str(NODE_MODULES / "@types"), "--types", "node"]

    done = subprocess.run(
        [str(ROOT / "tests/clients/packages/node_modules/.bin/tsc"), *options, str(script)],
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stdout


def test_wheel_contains_type_marker(python_folder: Path) -> None:
    assert (python_folder / "scan_login_client/py.typed").is_file()


def test_async_verifier_without_aiohttp_names_the_extra(python_folder: Path) -> None:
    program = """
import sys
sys.modules["aiohttp"] = None  # its import fails
from scan_login_client import AsyncVerifier, Verifier
Verifier("https://login.example", "default")
AsyncVerifier("https://login.example", "default")
"""

    done = subprocess.run(
        python_command(python_folder, "-c", program), capture_output=True, text=True
    )

    last_line = done.stderr.splitlines()[-1]
    assert last_line == (
        'ImportError: AsyncVerifier needs aiohttp: pip install "scan-login-client[async]"'
    )
