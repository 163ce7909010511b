"""Contents of the wheel and of the tarball."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.client_packages import NODE_MODULES
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
